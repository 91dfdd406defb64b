"""The repairs that are compared: each makes a network out of a cut, without labels, gradients or training."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from autoprune.plugin import PruneContext, Recovery
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.repair import Repair

from . import closed_forms, low_rank
from .bench import CALIBRATION, Cut, Setting, calibrating

Make = Callable[[Setting, PruneContext, Cut], nn.Module]


@dataclass(frozen=True)
class Method:
    """One repair."""

    title: str
    make: Make
    seeded: bool = True
    """Whether its result hangs on the calibration samples."""
    cuts: bool = True
    """Whether it gets the units that stay; else only what may be left of the multiply-accumulates."""

    @property
    def plain_title(self) -> str:
        """Without markdown."""
        return re.sub("[*`]", "", self.title)


def _cut(setting: Setting, ctx: PruneContext, cut: Cut) -> nn.Module:
    return setting.pruned(cut).network


def _recovered(setting: Setting, ctx: PruneContext, cut: Cut, *, recoveries: tuple[Recovery, ...]) -> nn.Module:
    pruned = setting.pruned(cut)
    for recovery in recoveries:
        recovery.recover(pruned, ctx)
    return pruned.network


def _folded(
    setting: Setting, ctx: PruneContext, cut: Cut, *, form: closed_forms.Form, recalibrate: bool = False
) -> nn.Module:
    known = ctx.memo("reads", lambda: closed_forms.reads(ctx.dense, calibrating(ctx.dense, ctx)))
    pruned = setting.pruned(cut)
    closed_forms.apply(form, known, pruned, ctx)
    if recalibrate:
        BatchNormRecalibration(samples=CALIBRATION).recover(pruned, ctx)
    return pruned.network


def _factorized(setting: Setting, ctx: PruneContext, cut: Cut) -> nn.Module:
    def spectra() -> dict[str, low_rank.Spectrum]:
        known = low_rank.moments(ctx.dense, calibrating(ctx.dense, ctx))
        return low_rank.spectra(ctx.dense, known, CALIBRATION)

    found: dict[str, low_rank.Spectrum] = ctx.memo("spectra", spectra)
    budget = cut.macs * sum(float(spectrum.costs()[-1]) for spectrum in found.values())
    return low_rank.factorized(ctx.dense, found, low_rank.ranks(found, budget))


METHODS = {
    "none": Method("none", _cut, seeded=False),
    "bias": Method("bias alone (FLAP-like)", partial(_folded, form=closed_forms.bias)),
    "recalibration": Method(
        "`bn-recalibration`, 512", partial(_recovered, recoveries=(BatchNormRecalibration(samples=512),))
    ),
    "mixing": Method("GRAIL-like, weights alone", partial(_folded, form=closed_forms.mixing)),
    "mixing-norms": Method("GRAIL-like", partial(_folded, form=closed_forms.mixing, recalibrate=True)),
    "affine": Method("CORP-like", partial(_folded, form=closed_forms.affine)),
    "affine-norms": Method(
        "CORP-like, then norms recalibrated", partial(_folded, form=closed_forms.affine, recalibrate=True)
    ),
    "low-rank": Method("BALF-like (low rank instead)", _factorized, cuts=False),
    "repair": Method("**ours**, 256 / 8,000", partial(_recovered, recoveries=(Repair(),))),
    "repair-final": Method("**ours**, as the front gets it", partial(_recovered, recoveries=(Repair().final(),))),
    "repair-large": Method(
        "**ours**, 1,024 / 40,000", partial(_recovered, recoveries=(Repair(samples=1024, rows=40_000),))
    ),
}
