"""Blocks that can be left out are left out once, and the result is compared with what a hook in their place makes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from autoprune.plugin import Inputs
from autoprune.structure.graph.trace import evaluating
from autoprune.structure.groups.channels import Uncut
from autoprune.structure.surgery.masked import Masked
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.slicing import apply
from autoprune.structure.verify.comparison import difference, first_line


def verified_blocks(
    network: nn.Module, inputs: Inputs, blocks: Mapping[str, int]
) -> tuple[dict[str, int], tuple[Uncut, ...]]:
    """Blocks without which the network runs and does what a hook in their place makes of it.

    Args:
        network: The dense network.
        inputs: Its example inputs.
        blocks: Block to the length of the tuple that it returns; 0 for a bare tensor.
    """
    with evaluating(network):
        if not blocks or _without(network, inputs, blocks) is None:
            return dict(blocks), ()
        reasons = {name: _without(network, inputs, {name: outputs}) for name, outputs in blocks.items()}
    return (
        {name: outputs for name, outputs in blocks.items() if reasons[name] is None},
        tuple(Uncut(name, 1, reason) for name, reason in reasons.items() if reason is not None),
    )


def _without(network: nn.Module, inputs: Inputs, blocks: Mapping[str, int]) -> str | None:
    """Why those blocks cannot be left out; None when they can."""
    plan = Plan({}, bypassed=blocks)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            return difference(
                inputs.feed(Masked(network, plan)), inputs.feed(apply(network, plan)), inputs.feed(network)
            )
        except Exception as error:  # noqa: BLE001  the model's own code may raise anything
            return f"the model does not run without it: {type(error).__name__}: {first_line(error)}"
