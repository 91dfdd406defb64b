"""Recurrent layers: their gates' sums are products of inputs and states, which are fitted to the dense ones'.

Shapes use: N samples, T steps, I inputs, H hidden units, G gates, R rows among the N·T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.least_squares import Rows

if TYPE_CHECKING:
    from torch import Tensor

RECURRENT = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""How many gates the layers of torch have."""
_NUMBERS = 2**25
"""Of a layer's states that are kept; with longer ones it stays as it was cut."""

Better = Callable[[Rows, Any, Any], Any]
"""Rows, given weights (1, O, F) and constants (1, O), to better ones; None if there are none."""


@dataclass(frozen=True, eq=False)
class Roll:
    """A recurrent layer that is about to run, without a projection."""

    layer: str
    kind: str
    inputs: Tensor
    """(N, T, I)."""
    cells: tuple[Cell, ...]
    """Of each of its layers the directions."""
    directions: int

    @classmethod
    def of(cls, layer: str, kind: str, func: Callable[..., Any], args: tuple[Any, ...]) -> Roll | None:
        """That of torch's function; None for packed sequences and projections."""
        if len(args) < 9 or not isinstance(args[3], bool):
            return None
        x, states, params, biased, layers, _, _, bidirectional, batch_first = args
        directions = 2 if bidirectional else 1
        count = len(params) // (layers * directions)
        if count != (4 if biased else 2) or x.dim() != 3:
            return None
        held = states if isinstance(states, list | tuple) else (states,)
        cells = tuple(
            Cell(func, kind, tuple(params[n * count : (n + 1) * count]), tuple(each[n : n + 1] for each in held))
            for n in range(layers * directions)
        )
        return cls(layer, kind, x if batch_first else x.transpose(0, 1), cells, directions)

    def walk(self) -> Iterator[tuple[int, Cell, Tensor]]:
        """Number, cell and inputs in the order of its steps, (N, T, I), of one cell after the other."""
        import torch

        x = self.inputs
        for first in range(0, len(self.cells), self.directions):
            made = []
            for number in range(first, first + self.directions):
                backwards = number > first
                taken = x.flip(1) if backwards else x
                yield number, self.cells[number], taken
                given = self.cells[number].run(taken)
                made.append(given.flip(1) if backwards else given)
            x = torch.cat(made, 2)


@dataclass(frozen=True, eq=False)
class Cell:
    """One layer of a recurrent one, in one direction."""

    func: Callable[..., Any] = field(repr=False)
    kind: str
    params: tuple[Tensor, ...]
    """Weights (G·H, I) and (G·H, H), and their constants if there are any."""
    start: tuple[Tensor, ...]
    """What it begins with, (1, N, H) each."""

    def run(self, x: Tensor) -> Tensor:
        """Its states after each step, (N, T, H)."""
        start: Any = list(self.start) if len(self.start) > 1 else self.start[0]
        given: Tensor = self.func(x, start, list(self.params), len(self.params) > 2, 1, 0.0, False, False, True)[0]
        return given

    def before(self, states: Tensor) -> Tensor:
        """The states before each step, (N, T, H)."""
        import torch

        return torch.cat([self.start[0].transpose(0, 1), states[:, :-1]], 1)

    def parts(self, kept: Tensor | None = None) -> Iterator[tuple[Tensor, bool, bool]]:
        """Rows of its weights that are fitted at once, and whether inputs and states are read.

        Args:
            kept: The units that stay of the dense cell; all if None.
        """
        import torch

        gates, units = RECURRENT[self.kind], len(self.params[0]) // RECURRENT[self.kind]
        kept = torch.arange(units, device=self.params[0].device) if kept is None else kept
        rows = (torch.arange(gates, device=kept.device).unsqueeze(1) * units + kept).flatten()
        if self.kind != "gru":
            yield rows, True, True
            return
        own = 2 * len(kept)  # a GRU's last gate resets what the states say before it adds what the inputs say
        yield rows[:own], True, True
        yield rows[own:], True, False
        yield rows[own:], False, True


@dataclass(frozen=True)
class Known:
    """A dense cell's run."""

    index: Tensor
    """Its fixed positions among the N·T, ascending, (R,)."""
    sums: tuple[Tensor, ...]
    """What `Cell.parts` add up to there, (R, O) each."""
    states: Tensor
    """After each step, (N, T, H)."""
    before: Tensor
    """Before each step, (N, T, H)."""
    cell: Cell
    """For the dense rows of its parts."""


def known(roll: Roll, rows: int) -> list[Known] | None:
    """The run of a dense recurrent layer; None if that takes too much memory.

    Args:
        roll: Which.
        rows: How many positions are kept of each of its cells.
    """
    import torch

    steps = roll.inputs.shape[0] * roll.inputs.shape[1]
    if 2 * steps * sum(cell.params[1].shape[1] for cell in roll.cells) > _NUMBERS:
        return None
    random = torch.Generator().manual_seed(0)
    found = []
    for _, cell, x in roll.walk():
        index = torch.randperm(steps, generator=random)[:rows].sort().values.to(x.device)
        states = cell.run(x)
        before = cell.before(states)
        design = (x.reshape(steps, -1)[index], before.reshape(steps, -1)[index])
        sums = tuple(_sums(cell, part, design) for part in cell.parts())
        found.append(Known(index, sums, states, before, cell))
    return found


def mend(roll: Roll, dense: list[Known], kept: Tensor, better: Better) -> None:
    """Change the weights of a pruned recurrent layer: gates' sums to the dense ones, as if states were the dense ones.

    A cell whose states are farther from the dense ones afterwards, on the fifth of the samples whose rows were held
    out, gets its weights back.

    Args:
        roll: Which.
        dense: Of the dense one.
        kept: Outputs that stayed, of both directions.
        better: Fits.
    """
    units = len(roll.cells[0].params[1][0])
    kept = kept[:units]
    for number, cell, x in roll.walk():
        was = [each.clone() for each in cell.params]
        there = dense[number]
        some = slice(0, max(1, len(x) // 5))
        few = Cell(cell.func, cell.kind, cell.params, tuple(each[:, some] for each in cell.start))
        wanted = there.states[some][:, :, kept]
        error = (few.run(x[some]) - wanted).square().sum()
        steps = x.shape[0] * x.shape[1]
        design = (x.reshape(steps, -1)[there.index], there.before.reshape(steps, -1)[there.index][:, kept])
        for (mine, *reads), (theirs, *_), all_, sums in zip(
            cell.parts(), there.cell.parts(kept), there.cell.parts(), there.sums, strict=True
        ):
            _mend(cell, mine, reads, design, sums[:, theirs - all_[0][0]], better)
        if not (few.run(x[some]) - wanted).square().sum() < error:
            for each, old in zip(cell.params, was, strict=True):
                each.copy_(old)


def _sums(cell: Cell, part: tuple[Tensor, bool, bool], design: tuple[Tensor, Tensor]) -> Tensor:
    rows, *reads = part
    total: Any = 0.0
    for n in (0, 1):
        if reads[n]:
            total = total + design[n] @ cell.params[n][rows].T
            total = total + cell.params[n + 2][rows] if len(cell.params) > 2 else total
    made: Tensor = total
    return made


def _mend(
    cell: Cell, rows: Tensor, reads: list[bool], design: tuple[Tensor, Tensor], wanted: Tensor, better: Better
) -> None:
    import torch

    used = [n for n in (0, 1) if reads[n]]
    near = torch.cat([cell.params[n][rows] for n in used], 1).double()
    bias = near.new_zeros(len(rows))
    if len(cell.params) > 2:
        bias = sum((cell.params[n + 2][rows].double() for n in used), bias)
    x = torch.cat([design[n] for n in used], 1).float()
    found = better(Rows(x.unsqueeze(0), wanted.float().unsqueeze(0)), near.unsqueeze(0), bias.unsqueeze(0))
    if found is None:
        return
    weight, constant = found[0][0], found[1][0]
    first = 0
    for n in used:
        width = cell.params[n].shape[1]
        cell.params[n][rows] = weight[:, first : first + width].to(cell.params[n].dtype)
        first += width
    if len(cell.params) > 2:
        cell.params[used[0] + 2][rows] += (constant - bias).to(cell.params[0].dtype)
