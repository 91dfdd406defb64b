"""Hypervolume against time and against candidates, one panel per task, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tests.benchmarks.drawn import svg

from .course import Runs
from .methods import Method
from .tasks import Task

# Okabe and Ito's colours; lines of one colour differ in their dashes.
_LINES = {
    "ours": ("#D55E00", "--"),
    "ours-best": ("#D55E00", "-"),
    "ours-recalibrated": ("#D55E00", ":"),
    "random": ("#000000", "--"),
    "uniform": ("#A6A6A6", "-"),
    "hand-nsga2": ("#0072B2", "-"),
    "hand-tpe": ("#56B4E9", "-"),
    "tp-uniform": ("#A6A6A6", "--"),
    "tp-global": ("#A6A6A6", ":"),
    "fastnas": ("#009E73", "-"),
    "pquant": ("#CC79A7", "-"),
}
_LABELS = {"seconds": "seconds", "evaluated": "evaluated candidates"}


def figure(
    tasks: Sequence[Task], methods: Sequence[Method], found: Mapping[str, Mapping[str, Runs]], *, along: str
) -> str:
    """SVG text.

    Args:
        tasks: One panel each.
        methods: In the legend's order.
        found: Task to method to runs.
        along: ``seconds`` or ``evaluated``, on a logarithmic axis.
    """
    columns = min(3, max(1, len(tasks)))
    rows = max(1, math.ceil(len(tasks) / columns))

    def draw(drawn: Figure) -> None:
        handles = {}
        for place, task in enumerate(tasks):
            axis = drawn.add_subplot(rows, columns, place + 1)
            for method in methods:
                runs = found[task.name].get(method.name)
                if runs is None:
                    continue
                last = max(float(getattr(run, along)[-1]) for run in runs.runs)
                places = np.unique(np.concatenate([getattr(run, along) for run in runs.runs]))
                places = places[_telling(np.stack(runs.at(places, along=along)))]
                low, middle, high = runs.at(places, along=along)
                colour, dashes = _LINES[method.name]
                width = 2.2 if method.kind == "ours" else 1.3
                (line,) = axis.step(places, middle, color=colour, linestyle=dashes, linewidth=width, where="post")
                handles.setdefault(method.title, line)
                if len(runs.runs) > 1:
                    axis.fill_between(places, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
                axis.plot([last], [middle[-1]], marker="o", markersize=3, color=colour)
                axis.set_xscale("log")
            axis.set_ylim(bottom=0)
            axis.set_title(task.title, fontsize=9)
            axis.set_xlabel(_LABELS[along])
            axis.set_ylabel("hypervolume")
        titles = [method.title for method in methods if method.title in handles]
        lines = [handles[title] for title in titles]
        drawn.legend(lines, titles, loc="outside lower center", ncols=columns + (columns > 1), fontsize=8)

    return svg(draw, size=(4.2 * columns, 3.2 * rows + 0.6))


def _telling(curves: NDArray[np.float64]) -> list[int]:
    """Columns of curves (C, N) where one of them has risen by enough to be seen; the first and the last, too."""
    seen, told = curves.max() / 100, [0]
    for place in range(1, curves.shape[1]):
        if (abs(curves[:, place] - curves[:, told[-1]]) > seen).any() or place == curves.shape[1] - 1:
            told.append(place)
    return told
