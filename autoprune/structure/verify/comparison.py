"""Whether a cut model does what the masked original does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.plugin import Group, Inputs
from autoprune.structure.graph.trace import evaluating
from autoprune.structure.structure import Structure
from autoprune.structure.verify.sharing import used
from autoprune.structure.verify.training import Trained, in_training
from autoprune.toolkit.copies import duplicate

TOLERANCE = 2e-5
"""Largest deviation from the masked original, relative to the largest output (float32). Other inputs may deviate some
times more than the example, and are to stay below 1e-4."""

_SHARE, _NOISE = 1e-2, 5e-6
"""Largest deviation relative to what the cut changes, beyond the noise of float32 relative to the largest output."""


def deviation(
    structure: Structure,
    network: nn.Module,
    inputs: Inputs,
    groups: Sequence[Group],
    dense: Any,
    draw: int = 0,
    trained: Trained | None = None,
) -> str | None:
    """Why cutting some units of those groups differs from the masked original; None when it does not.

    The first draw is looked at in ``train()``, too, and for tensors of the dense network that the cut one still uses.

    Args:
        structure: Has those groups.
        network: The dense network.
        inputs: Its example inputs.
        groups: What is cut.
        dense: The dense network's outputs.
        draw: 0 or 1, which cut other units and shares: what agrees by luck once rarely does twice.
        trained: What the dense network gives in ``train()``; None if nothing.
    """
    generator = torch.Generator().manual_seed(draw)
    kept = {}
    for number, group in enumerate(groups):
        # Other shares of each group: what should be tied, and is not, is cut differently.
        share = (2, 3, 4)[(number + draw) % 3] / 6
        stays = max(1, group.units - max(1, round(group.units * share)))
        kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    compared = trained is not None and trained.compared and draw == 0
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            # One after the other: there never are more than two models in memory.
            reference = structure.masked(network, kept)
            masked, wanted = inputs.feed(reference), in_training(reference, inputs) if compared else None
            del reference
            model = structure.cut(network, kept)
            small = inputs.feed(model)
        except Exception as error:  # noqa: BLE001  the model's own code may raise anything on sizes it cannot have
            return f"the cut model does not run: {type(error).__name__}: {first_line(error)}"
        if (reason := difference(masked, small, dense)) is not None or draw:
            return reason
        given: list[Any] = []
        again = inputs.feed if trained is None else partial(_note, given, inputs)
        try:
            held = used(network, lambda: again(model))
        except Exception as error:  # noqa: BLE001  see above
            return f"the cut model does not run in train(): {type(error).__name__}: {first_line(error)}"
    if held is not None:
        return f"a copy of the model still uses {held} of the original: its code has it from elsewhere than its module"
    reason = difference(wanted, given, trained.outputs) if compared and trained is not None else None
    return reason and f"in train() {reason}"


def _note(given: list[Any], inputs: Inputs, model: nn.Module) -> None:
    given += in_training(model, inputs)


def precise(network: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """A network and its inputs as they are, or in float32 where the network computes in less and can do so."""
    short = (torch.float16, torch.bfloat16)
    if not any(tensor.dtype in short for tensor in (*network.parameters(), *network.buffers())):
        return network, inputs
    wide, given = duplicate(network).float(), inputs.map(lambda t: t.float() if t.dtype in short else t)
    try:
        with evaluating(wide), torch.no_grad():
            given.feed(wide)
    except Exception:  # noqa: BLE001  its code says that numbers are short
        return network, inputs
    return wide, given


def difference(expected: Any, actual: Any, dense: Any) -> str | None:
    """Why a cut model's outputs are not equal to the masked one's; None when they are.

    Args:
        expected: Tensors, or containers of them.
        actual: What should equal them, within `TOLERANCE`.
        dense: The dense model's: a cut that hardly shows in the outputs must come the nearer.
    """
    left, right, whole = (
        [leaf for leaf in pytree.tree_leaves(each) if isinstance(leaf, Tensor)] for each in (expected, actual, dense)
    )
    if [leaf.shape for leaf in left] != [leaf.shape for leaf in right]:
        return "the cut model's outputs have other shapes"
    for a, b, c in zip(left, right, whole, strict=True):
        scale, worst, effect = (
            max(1.0, _largest(a)),
            _largest(a.double() - b.double()),
            _largest(a.double() - c.double()),
        )
        if not worst <= min(TOLERANCE * scale, _SHARE * effect + _NOISE * scale):
            return f"the cut model differs from the masked one by {worst:.2g} at outputs of size {scale:.2g}"
    return None


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [""])[0]
