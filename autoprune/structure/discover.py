"""From a network to its structure: trace, label, verify."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.building import Findings, Others, build
from autoprune.structure.graph.labeler import labelled
from autoprune.structure.graph.outputs import Counts, counting
from autoprune.structure.graph.randomness import random_in_eval
from autoprune.structure.graph.trace import Traced, evaluating, trace
from autoprune.structure.groups.blocks import block_groups, block_nodes, find_blocks
from autoprune.structure.groups.masks import mask_groups
from autoprune.structure.structure import Structure
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.slicing import apply
from autoprune.structure.surgery.template import Template, TemplateMaker
from autoprune.structure.verify.blocks import verified_blocks
from autoprune.structure.verify.sharing import used
from autoprune.structure.verify.training import in_training, learns
from autoprune.structure.verify.verifier import right_at_other_sizes, verified
from autoprune.toolkit.copies import duplicate

Form = Literal["auto", "modules", "graph"]


def discover(
    network: nn.Module,
    inputs: Inputs | Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    granularities: Sequence[str] = ("channels",),
    *,
    form: Form = "auto",
    counts: Counts | None = None,
) -> Structure:
    """Find the groups of units that can be cut exactly.

    Every proposal is verified: units are cut, the smaller network runs on the example, and its outputs must equal the
    masked original's. What does not verify is not offered, and named in ``uncut``.

    Args:
        network: The dense network; left as it was.
        inputs: Example inputs, positional or by keyword, each of shape (N, …), N ≥ 2, as the network takes them
            (normalised).
        granularities: What may be cut: ``channels`` (and neurons, heads, hidden units), ``blocks``, and one of
            ``weights``, ``kernels`` and N:M such as ``2:4``.
        form: What a pruned network is: the network's own ``modules``, or its exported ``graph`` with other sizes.
            ``auto`` takes the graph where the modules' code refuses sizes that the graph can have, and that matters.
        counts: Picks the tensors that count of what the network returns, as `Task.pick` does; others may change their
            shape. All of them count if None.

    Raises:
        StructureError: The network cannot be traced or does not run on the example, or its graph cannot be cut though
            ``form`` asks for it.
    """
    with _collecting_later(), counting(network, counts):
        return _discovered(network, Inputs.of(inputs), granularities, form)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """No garbage is collected meanwhile.

    Tracing makes so many objects that all that was ever imported would be looked through several times, which takes
    longer than tracing.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _discovered(network: nn.Module, inputs: Inputs, granularities: Sequence[str], form: Form) -> Structure:
    traced = trace(network, inputs)
    _check_outputs(network, inputs, traced)
    channels = "channels" in granularities
    findings = _findings(network, inputs, traced, form) if channels else Findings(labelled(traced, {}))
    others = Others(channels=channels)
    if "blocks" in granularities:
        blocks, uncut = verified_blocks(network, inputs, find_blocks(network, inputs, traced))
        others = replace(others, groups=block_groups(network, list(blocks)), uncut=uncut, blocks=blocks)
    for granularity in granularities:
        if granularity not in ("channels", "blocks"):
            masks, unfit = mask_groups(network, findings.labeling, granularity.removesuffix("s"))
            others = replace(others, groups=others.groups + masks, uncut=others.uncut + unfit)
    return build(network, traced, findings, others)


def _check_outputs(network: nn.Module, inputs: Inputs, traced: Traced) -> None:
    """Refuse a network whose outputs tell nothing.

    Raises:
        StructureError: They are NaN, or others in every pass.
    """
    with evaluating(network), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        outputs, again = (
            [leaf for leaf in pytree.tree_leaves(inputs.feed(network)) if isinstance(leaf, Tensor)] for _ in range(2)
        )
    if any(output.is_floating_point() and output.isnan().any() for output in outputs):
        raise StructureError(
            f"{type(network).__name__} returns NaN on the example, so that no cut of it can be verified; "
            "are its weights loaded, and its inputs normalised?"
        )
    if not all(map(_alike, outputs, again)):
        raise random_in_eval(network, traced.graph)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two passes gave the same, but for the order of sums."""
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-5)


def _findings(network: nn.Module, inputs: Inputs, traced: Traced, form: Form) -> Findings:
    modules = verified(network, inputs, traced) if form != "graph" else None
    share = 0.0 if modules is None else _share(network, traced, modules)
    if modules is not None and (form == "modules" or (not modules.refused and share >= _ENOUGH)):
        return modules
    if modules is not None and form == "auto" and _trains_more(network, inputs, traced):
        return modules
    try:
        maker = TemplateMaker(network, inputs, traced, block_nodes(traced, find_blocks(network, inputs, traced)))
        template = maker.template()
    except StructureError as error:
        if modules is None:
            raise StructureError(f"the exported graph cannot be cut: {error}") from error
        return modules
    graph = verified(network, inputs, traced, template)
    if modules is not None and _share(network, traced, graph) <= share + _WORTH:
        return modules
    if _trains_otherwise(network, inputs, template):
        if modules is None:
            raise StructureError(
                "its graph, which is that of eval(), gives something else in train() than the model; use form: modules"
            )
        return modules
    assert graph.template is not None  # noqa: S101  it was given
    freed = replace(graph, template=maker.freed(graph.template))
    return freed if right_at_other_sizes(network, inputs, traced, freed) else graph


def _trains_more(network: nn.Module, inputs: Inputs, traced: Traced) -> bool:
    """Whether ``train()`` uses parameters that ``eval()`` does not: those its graph lacks."""
    read = traced.read
    if all(name in read for name, _ in network.named_parameters()):
        return False
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            return used(network, lambda: in_training(network, inputs), besides=read) is not None
        except Exception:  # noqa: BLE001  it wants targets then, say, and may well use more
            return True


def _trains_otherwise(network: nn.Module, inputs: Inputs, template: Template) -> bool:
    """Whether ``train()`` returns or draws what the whole graph, traced in ``eval()``, does not, or it cannot learn."""
    whole = template.network(apply(network, Plan({})), len)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            expected = in_training(network, inputs)
        except Exception:  # noqa: BLE001  it wants targets then, say
            return True
        found = in_training(whole, inputs)
    alike = len(expected) == len(found) and all(map(_alike, expected, found))
    # A copy: code may keep what it computes in the network, with its gradients.
    return not alike or (learns(duplicate(network), inputs) and not learns(whole, inputs))


_ENOUGH = 0.95
"""Share of the parameters that the modules can lose, above which the graph is not looked at unless groups fail."""
_WORTH = 0.01
"""Share of the parameters that the graph must be able to lose beyond the modules, for being no code any more."""


def _share(network: nn.Module, traced: Traced, findings: Findings) -> float:
    """Of the parameters, less when every group has one unit left."""
    structure = build(network, traced, findings)
    least = structure.costs({group.name: group.units - 1 for group in structure.groups})
    return 1 - least.params / max(structure.dense_costs.params, 1)
