"""Recurrent layers: a hidden unit is a row of every gate, a column of the recurrent weight, and what reads it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from autoprune.structure.graph.coupling import Coupling
from autoprune.structure.graph.labels import along, axis, vector
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
    gates = _GATES[str(node.target).split(".")[1]]
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
            rows = coupling.claim(axis(weights[0], 0), "output").view(gates, -1)
            coupling.ties.tie(rows, rows[:1])
            for other in weights[1 : 4 if has_biases else 2]:
                role = "output" if other is weights[1] else "vector"
                coupling.ties.tie(rows, coupling.claim(axis(other, 0), role).view(gates, -1))  # type: ignore[arg-type]
            coupling.ties.tie(reads, coupling.claim(axis(weights[0], 1), "input"))
            cell = rows[0]
            coupling.kind("hidden unit", cell)
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
