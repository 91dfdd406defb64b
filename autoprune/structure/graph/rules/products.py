"""Weights that are made anew for every sample: a parameter times what is read off the input."""

from __future__ import annotations

from typing import Any

from torch import fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, narrowed, varying
from autoprune.structure.graph.operators import output_shape
from autoprune.structure.graph.rules.registry import rule


@rule("mul")
def scaled_weight(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Labels | None:
    """(out, in, …) times (N, 1, in, 1, …), as in StyleGAN2: what the weight makes goes on beside what it reads."""
    pair = [x for x in args if isinstance(x, Labels)]
    if len(pair) < 2 or pair[0].parameter == pair[1].parameter:
        return None
    weight, scale = pair if pair[0].parameter else pair[::-1]
    shape = output_shape(node)
    if scale.several or len(scale.shape) != len(shape) or len(weight.shape) < len(shape) - 1:
        return None
    first = len(shape) - len(weight.shape)
    by_dim = {varying(plane)[0] + first: plane for plane in weight.planes if len(varying(plane)) == 1}
    read = varying(scale.plane)
    made = next((dim for dim in by_dim if (dim,) != read), None)
    if len(read) != 1 or read[0] not in by_dim or made is None or scale.shape[made] != 1 or made > read[0]:
        return None
    for dim, plane in by_dim.items():
        if dim in (made, read[0]):
            coupling.claim(narrowed(plane), "output" if dim == made else "input")
        else:
            coupling.ties.pin(plane, f"used whole by {coupling.ties.where}")
    labels = [by_dim[dim].reshape((1,) * first + weight.shape) for dim in (read[0], made)]
    coupling.ties.tie(narrowed(scale.plane), narrowed(labels[0]))
    return Labels(tuple(plane.expand(shape) for plane in (scale.plane, labels[1])))
