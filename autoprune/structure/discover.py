"""From a network to its structure: trace, label, verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure.blocks import block_groups, block_nodes, find_blocks
from autoprune.structure.exported import make_template
from autoprune.structure.graph import Traced, trace
from autoprune.structure.labeler import Labeler
from autoprune.structure.masks import mask_groups
from autoprune.structure.structure import Others, Reading, Structure, build
from autoprune.structure.verify import verified, verified_blocks


def discover(
    network: nn.Module,
    inputs: Sequence[Tensor],
    granularities: Sequence[str] = ("channels",),
    *,
    form: Literal["auto", "modules", "graph"] = "auto",
) -> Structure:
    """Find the groups of units that can be cut exactly.

    Every proposal is verified: units are cut, the smaller network runs on the example, and its outputs must equal the
    masked original's. What does not verify is not offered, and named in ``uncut``.

    Args:
        network: The dense network; left as it was.
        inputs: Positional example inputs, each of shape (N, …), N ≥ 2, as the network takes them (normalised).
        granularities: What may be cut: ``channels`` (and neurons, heads, hidden units), ``blocks``, and one of
            ``weights``, ``kernels`` and N:M such as ``2:4``.
        form: What a pruned network is: the network's own ``modules``, or its exported ``graph`` with other sizes.
            ``auto`` takes the graph where the modules' code refuses sizes that the graph can have.

    Raises:
        StructureError: The network cannot be traced or does not run on the example, or its graph cannot be cut though
            ``form`` asks for it.
    """
    traced = trace(network, inputs)
    read = _read(network, inputs, traced, form) if "channels" in granularities else Reading(Labeler(traced, {}).label())
    others = Others(channels="channels" in granularities)
    if "blocks" in granularities:
        blocks, uncut = verified_blocks(network, inputs, find_blocks(network, inputs, traced))
        others = replace(others, groups=block_groups(network, list(blocks)), uncut=uncut, blocks=blocks)
    for granularity in granularities:
        if granularity not in ("channels", "blocks"):
            masks, unfit = mask_groups(network, read.found, granularity.removesuffix("s"))
            others = replace(others, groups=others.groups + masks, uncut=others.uncut + unfit)
    return build(network, traced, read, others)


def _read(network: nn.Module, inputs: Sequence[Tensor], traced: Traced, form: str) -> Reading:
    read = verified(network, inputs, traced) if form != "graph" else None
    if read is not None and (form == "modules" or not read.refused):
        return read
    try:
        template = make_template(network, inputs, traced, block_nodes(traced, find_blocks(network, inputs, traced)))
    except StructureError as error:
        if read is None:
            raise StructureError(f"the exported graph cannot be cut: {error}") from error
        return read
    graph = verified(network, inputs, traced, template)
    return graph if read is None or _units(network, traced, graph) > _units(network, traced, read) else read


def _units(network: nn.Module, traced: Traced, read: Reading) -> int:
    return sum(group.units for group in build(network, traced, read).groups)
