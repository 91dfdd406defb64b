"""Recurrent layers: a hidden unit is a row of every gate, a column of the recurrent weight, and what reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import Labels, along, axis, vector
from autoprune.structure.graph.operators import output_shape, short_name
from autoprune.structure.graph.rules.registry import rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*_GATES)
def recurrent(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:  # noqa: C901  one pass over all layers
    """Input (N, T, I) or (T, N, I); weights (gates × H, I) and (gates × H, H), an LSTM's projection (P, H).

    One module keeps one hidden size, so its layers and directions lose the same units.
    """
    if isinstance(args[1], list | tuple) and isinstance(args[2], bool):
        return None  # packed sequences
    x, states, params, has_biases, layers, _, _, bidirectional, _ = args
    gates = _GATES[short_name(node)]
    directions = 2 if bidirectional else 1
    states = list(states) if isinstance(states, list | tuple) else [states]
    per_layer = len(params) // (layers * directions)
    projected = per_layer == (5 if has_biases else 3)
    reads = vector(x.plane, -1, coupling.ties)
    cells: Tensor | None = None
    hidden: Tensor | None = None
    steps = x.shape[0] * x.shape[1]
    for layer in range(layers):
        made = []
        for direction in range(directions):
            first = (layer * directions + direction) * per_layer
            weights = params[first : first + per_layer]
            cell = _gated(coupling, gates, weights[0], weights[1], weights[2:4] if has_biases else ())
            coupling.ties.tie(reads, coupling.claim(axis(weights[0], 1), "input"))
            out = coupling.claim(axis(weights[-1], 0), "output") if projected else cell
            if projected:
                # torch takes an LSTM whose hidden size has come down to its projection for one without.
                coupling.ties.pin(cell, "an LSTM's hidden size must stay above its projection")
                coupling.ties.tie(cell, coupling.claim(axis(weights[-1], 1), "input"))
            back = coupling.claim(axis(weights[1], 1), "input")
            coupling.ties.tie(out, back)
            for kept, new in ((cells, cell), (hidden, out)):
                if kept is not None:
                    coupling.ties.tie(kept, new)
            cells, hidden = cell if cells is None else cells, out if hidden is None else hidden
            coupling.macs(steps, axis(weights[0], 0), reads, weight=weights[0])
            coupling.macs(steps, axis(weights[1], 0), back, weight=weights[1])
            if projected:
                coupling.macs(steps, out, cell, weight=weights[-1])
            made.append(out)
        reads = torch.cat(made)
    coupling.makes(params[0], reads)
    assert hidden is not None  # noqa: S101  there is at least one layer
    assert cells is not None  # noqa: S101
    for state, units in zip(states, (hidden, cells), strict=False):
        if state.parameter:
            coupling.ties.tie(axis(state, -1), units)
        elif state.plane.any():
            coupling.ties.tie(vector(state.plane, -1, coupling.ties), units)
    values = node.meta["val"]
    ends = (hidden, cells)
    return (
        along(reads, values[0].ndim - 1, values[0].shape),
        *(along(units, value.ndim - 1, value.shape) for value, units in zip(values[1:], ends, strict=False)),
    )


@rule(*(f"{name}_cell" for name in _GATES))
def cell(coupling: Coupling, node: fx.Node, args: tuple[Any, ...]) -> Any:
    """One step: input (N, I), states (N, H), an LSTM's two of them."""
    x, states, to_gates, back, *biases = args
    gates = _GATES[short_name(node).removesuffix("_cell")]
    units = _gated(coupling, gates, to_gates, back, [bias for bias in biases if bias is not None])
    reads, again = (coupling.claim(axis(weight, 1), "input") for weight in (to_gates, back))
    coupling.ties.tie(vector(coupling.carried(x, -1), -1, coupling.ties), reads)
    coupling.ties.tie(units, again)
    for state in states if isinstance(states, list | tuple) else [states]:
        coupling.ties.tie(vector(coupling.carried(state, -1), -1, coupling.ties), units)
    coupling.macs(x.shape[0], axis(to_gates, 0), reads, weight=to_gates)
    coupling.macs(x.shape[0], axis(back, 0), again, weight=back)
    coupling.makes(to_gates, units)
    if isinstance(node.meta["val"], Tensor):
        return along(units, 1, output_shape(node))
    return tuple(along(units, 1, value.shape) for value in node.meta["val"])


def _gated(coupling: Coupling, gates: int, to_gates: Labels, back: Labels, biases: Iterable[Labels]) -> Tensor:
    """Hidden units: each has a row in every gate."""
    rows = coupling.claim(axis(to_gates, 0), "output").view(gates, -1)
    coupling.ties.tie(rows, rows[:1])
    coupling.ties.tie(rows, coupling.claim(axis(back, 0), "output").view(gates, -1))
    for bias in biases:
        coupling.ties.tie(rows, coupling.claim(axis(bias, 0), "vector").view(gates, -1))
    coupling.kind("hidden unit", rows[0])
    return rows[0]
