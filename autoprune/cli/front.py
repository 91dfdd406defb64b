"""The front as a table that fits the terminal, however narrow: nothing is cut off."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.api.printed import table
from autoprune.report import compared_models, heading, mean_ratio, number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from autoprune.plugin import FrontPoint, Measured, StudyInfo, StudyOutcome

_COSTS = ("macs", "macs_ratio")
"""What is told beside the objectives: the first of them that was measured."""
_TITLE, _WORD = 10, 20
"""Columns that a title has at least, and those that the longest of its words has at most."""


@dataclass(frozen=True)
class FrontTable:
    """The dense model and the front: a line of validation values for each model, and one of test values below.

    Where that is too wide, the mean ratio goes first; else intervals stand below their values; what is left over then
    goes into a table of its own.
    """

    study: StudyInfo
    outcome: StudyOutcome
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """In as many columns of text as there are."""
        models = compared_models(self.outcome)
        columns = self._columns(models)
        cut = _Column("cut", [f"{mean_ratio(point.trial):.0%}" for point in models], [""] * len(models))

        def fits(columns: Sequence[_Column], *, folded: bool) -> bool:
            made = _made(models, columns, self.title, folded=folded, widest=True)
            return console.measure(made, options=options.update(max_width=1 << 16)).maximum <= options.max_width

        for folded in (False, True):
            for shown in ([*columns, cut], columns):
                if fits(shown, folded=folded):
                    yield _made(models, shown, self.title, folded=folded)
                    return
        title = self.title
        while columns:
            count = next((n for n in range(len(columns), 1, -1) if fits(columns[:n], folded=True)), 1)
            yield _made(models, columns[:count], title, folded=True)
            title, columns = f"{self.title}, continued", columns[count:]

    def _columns(self, models: Sequence[FrontPoint]) -> list[_Column]:
        """The objectives, and the MACs where they are none."""
        objectives = self.outcome.front.objectives
        costs = [name for name in _COSTS if any(name in point.trial.metrics for point in models)]
        beside = [] if objectives.keys() & _COSTS else costs[:1]
        columns = []
        for name in (*objectives, *beside):
            unit = self.study.units.get(name, "")
            validation = [_told(point.trial.metrics.get(name), unit) for point in models]
            test = [_told(point.test.get(name), unit) if name in objectives else "" for point in models]
            title = "MACs" if name == "macs" else heading(name, unit)  # nobody needs its unit
            columns.append(_Column(title.replace("macs", "MACs") if name in _COSTS else title, validation, test))
        return columns


@dataclass(frozen=True)
class _Column:
    """Texts of every model: an interval is the second line."""

    title: str
    validation: list[str]
    test: list[str]


def _made(
    models: Sequence[FrontPoint], columns: Sequence[_Column], title: str, *, folded: bool, widest: bool = False
) -> Table:
    """The table, or one with a single row that is as wide."""
    made = table("trial", *(f"#{_broken(column, folded=folded)}" for column in columns), title=title)
    tested = any(any(column.test) for column in columns)
    rows = []
    for place, point in enumerate(models):
        origin = "" if point.trial.origin == "sampler" else f" {point.trial.origin}"
        rows.append([f"{point.trial.number}{origin}", *(column.validation[place] for column in columns)])
        rows += [["  test", *(column.test[place] for column in columns)]] if tested else []
    if not folded:
        rows = [[_flat(cell) for cell in row] for row in rows]
    if widest:
        rows = [[max(cells, key=_width) for cells in zip(*rows, strict=True)]]
    for place, row in enumerate(rows, start=1):
        made.add_row(*row, end_section=folded and place % (1 + tested) == 0)
    return made


def _width(cell: str) -> int:
    return max(map(len, cell.split("\n")))


def _told(measured: Measured | None, unit: str) -> str:
    if measured is None:
        return ""
    text = number(measured.value, unit)
    if measured.low is None or measured.high is None:
        return text
    low, high = (number(end, unit).removesuffix(" %") for end in (measured.low, measured.high))
    return f"{text}\n{low} to {high}" if measured.low < 0 else f"{text}\n{low}–{high}"


def _flat(cell: str) -> str:
    value, _, interval = cell.partition("\n")
    return f"{value} ({interval})" if interval else value


def _broken(column: _Column, *, folded: bool) -> str:
    """The title in lines that make the column no wider than need be."""
    cells = [*column.validation, *column.test]
    word = min(max(map(len, column.title.split()), default=0), _WORD)
    return textwrap.fill(column.title, max(_TITLE, word, *(_width(each if folded else _flat(each)) for each in cells)))
