"""How operators that run over a dimension treat the units along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, constant, varies, varying
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.elementwise import elementwise
from autoprune.structure.graph.rules.registry import rule

AVERAGES = frozenset({"mean", "sum", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm"})
"""Reductions whose meaning over fewer entries is plain: they run over the units that are left."""


@rule(
    *AVERAGES, "prod", "amax", "amin", "max", "min", "logsumexp", "argmax", "argmin", "any", "all", "count_nonzero"
)  # fmt: skip
def reduction(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Reduced over ``dim`` (all dimensions if left out)."""
    x = args[0]
    name = short_name(node)
    position = 2 if name in ("linalg_vector_norm", "norm") else 1
    dims = args[position] if len(args) > position else None
    if isinstance(dims, Labels):
        return None
    if dims is None or dims == [] or isinstance(dims, bool):
        dims = range(len(x.shape))
    chosen = sorted({dim % len(x.shape) for dim in ([dims] if isinstance(dims, int) else dims)} if x.shape else ())
    if name in AVERAGES:
        coupling.count(node)
    rest = []
    for plane in x.planes:
        over = [dim for dim in varying(plane) if dim in chosen]
        if not over:
            rest.append(plane)
        elif name in AVERAGES and len(over) == 1 and set(varying(plane)) == set(over):
            coupling.average(node, over[0], plane)
        else:
            coupling.ties.pin(plane, f"{name} runs over them")
    values = node.meta["val"]
    shape = values[0].shape if isinstance(values, Sequence) else values.shape
    planes = tuple(_reduced(plane, chosen, len(shape)) for plane in rest)
    labels = Labels(planes, x.parameter) if planes else Labels(constant(shape).planes, x.parameter)
    return tuple(labels for _ in values) if isinstance(values, Sequence) else labels


def _reduced(plane: Tensor, dims: Sequence[int], ndim: int) -> Tensor:
    for dim in dims:
        plane = plane.narrow(dim, 0, 1)
    if plane.ndim != ndim:
        for dim in sorted(dims, reverse=True):
            plane = plane.squeeze(dim)
    return plane


@rule("softmax", "log_softmax", "_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort", "topk")
def along_dimension(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """Mixes, orders or picks entries along one dimension."""
    x, name, values = args[0], short_name(node), node.meta["val"]
    place = 2 if name == "topk" else 1
    dim: Any = args[place] if len(args) > place else node.kwargs.get("dim", -1)  # sort(stable=…) takes it by name
    kept = []
    for plane in x.planes:
        if plane.ndim and varies(plane, dim):
            coupling.ties.pin(plane, f"{name} runs over them")
        else:
            kept.append(plane.narrow(dim, 0, 1) if plane.ndim else plane)
    kept = kept or list(constant(()).planes)

    def labels(value: Tensor) -> Labels:
        return Labels(tuple(plane.expand(value.shape) for plane in kept), x.parameter)

    return labels(values) if isinstance(values, Tensor) else tuple(map(labels, values))


@rule("glu")
def glu(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels:
    """Half of a dimension times a sigmoid of the other half."""
    x, dim = args
    halves = zip(*(plane.chunk(2, dim) for plane in x.planes), strict=True)
    return elementwise(coupling, [Labels(half, x.parameter) for half in halves], output_shape(node))
