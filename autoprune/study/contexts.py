"""The contexts that components get: made here, for searches and for the bench alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import TrialError
from autoprune.plugin import (
    Costs,
    Data,
    EvaluationContext,
    Group,
    Measured,
    PruneContext,
    Pruned,
    ScoreContext,
    SourceContext,
    SplitName,
    Task,
    TransformContext,
)
from autoprune.structure import Structure

Cache = MutableMapping[Hashable, Any]
Predictor = Callable[[nn.Module], nn.Module]
Made = Callable[[], Mapping[str, Tensor]]


def unwatched(measured: Mapping[str, Measured]) -> None:
    """Nobody decides half-way."""


def unkept(key: str, make: Made) -> Mapping[str, Tensor]:  # noqa: ARG001  nothing is looked up
    """Whoever comes next makes it again."""
    return make()


@dataclass(frozen=True)
class Contexts:
    """Makes the contexts of one dense network and its data."""

    device: torch.device
    data: Data
    task: Task
    network: nn.Module = field(repr=False)
    """The dense network, bare, on the device, in ``eval()``."""
    structure: Structure = field(repr=False)
    groups: tuple[Group, ...] = field(repr=False)
    """Those that may lose units."""
    build: Callable[[int], nn.Module]
    """A seed to the untrained architecture, bare."""
    source: SourceContext
    """Where components look for what their options name."""

    def scoring(self, network: nn.Module, predictor: Predictor, *, groups: Iterable[Group], seed: int) -> ScoreContext:
        """For a scorer.

        Args:
            network: A copy for it to use.
            predictor: Wraps a bare network.
            groups: As they are in that network.
            seed: Of the study.
        """
        return ScoreContext(
            device=self.device,
            seed=seed,
            data=self.data,
            task=self.task,
            model=predictor(network),
            network=network,
            groups=tuple(groups),
        )

    def pruning(
        self,
        predictor: Predictor,
        *,
        seed: int,
        cache: Cache,
        score: Callable[[Pruned], Mapping[str, Tensor]],
        once: Callable[[str, Made], Mapping[str, Tensor]],
        cutting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> PruneContext:
        """For a strategy and its recoveries.

        Args:
            predictor: Wraps a bare network.
            seed: Of the trial.
            cache: What trials share.
            score: Ranks the units of a network in the making.
            once: Makes what is made once in a study.
            cutting: What cuts run in.
        """

        def start() -> Pruned:
            return Pruned(lambda: self.structure.cut(self.network, {}).eval())

        def cut(pruned: Pruned, kept: Mapping[str, Tensor]) -> Pruned:
            _check_composes(pruned.kept, kept)
            with cutting():
                both = {**pruned.kept, **kept}
                # Nothing was done to a network that nobody has asked for: it is cut from the dense one at once.
                network = self.network if pruned.untouched else pruned.network
                return Pruned(self.structure.cut(network, both, before=pruned.kept).eval(), both)

        return PruneContext(
            device=self.device,
            seed=seed,
            data=self.data,
            task=self.task,
            cache=cache,
            groups=self.groups,
            dense=self.network,
            build=lambda: self.build(self.source.seed).to(self.device),
            start=start,
            score=score,
            select=self.structure.select,
            cut=cut,
            rows=lambda pruned, layer: self.structure.rows(pruned.kept, layer),
            once=once,
            predictor=predictor,
        )

    def transforming(self, predictor: Predictor, *, seed: int, cache: Cache) -> TransformContext:
        """For a transform.

        Args:
            predictor: Wraps a bare network.
            seed: Of the trial.
            cache: What trials share.
        """
        return TransformContext(
            device=self.device,
            seed=seed,
            data=self.data,
            task=self.task,
            cache=cache,
            dense=self.network,
            predictor=predictor,
        )

    def evaluating(
        self,
        predictor: Predictor,
        *,
        seed: int,
        cache: Cache,
        split: SplitName,
        costs: Costs,
        of_dense: bool = False,
        once: Callable[[str, Made], Mapping[str, Tensor]] = unkept,
        report: Callable[[Mapping[str, Measured]], None] = unwatched,
    ) -> EvaluationContext:
        """For an evaluator.

        Args:
            predictor: Wraps a bare network.
            seed: Of the study.
            cache: What evaluations share.
            split: What is measured on.
            costs: Exact ones of what is measured.
            of_dense: Whether that is the dense model.
            once: Makes what is made once in a study.
            report: Told what is known so far.
        """
        return EvaluationContext(
            device=self.device,
            seed=seed,
            data=self.data,
            task=self.task,
            cache=cache,
            split=split,
            dense=predictor(self.network.eval()),
            costs=costs,
            dense_costs=self.structure.dense_costs,
            of_dense=of_dense,
            build=lambda seed: predictor(self.build(seed).to(self.device)),
            once=once,
            source=self.source,
            report=report,
        )


def _check_composes(before: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Refuse to keep what is gone.

    Raises:
        TrialError: Units are kept that an earlier cut took.
    """
    for name in kept.keys() & before.keys():
        earlier, now = before[name].cpu(), kept[name].cpu()
        masked = now.dtype == torch.bool
        if (now & ~earlier).any() if masked else not torch.isin(now, earlier).all():
            raise TrialError(f"cut: units of {name} are to stay that an earlier cut took")
