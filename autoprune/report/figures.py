"""Figures of a study as SVG text, the same text for the same study.

Colours are of Okabe and Ito's palette, which is told apart with any colour vision; shapes and lines say the same again.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome
from autoprune.report._words import heading, number, searched_groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Any = {
    "svg.hashsalt": "autoprune",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}


def front_figure(study: StudyInfo, outcome: StudyOutcome) -> str:
    """The trials and their Pareto front, see `front_plot`."""
    with _styled():
        return _svg(front_plot(study, outcome))


def front_plot(study: StudyInfo, outcome: StudyOutcome, pair: tuple[str, str] | None = None) -> Figure:
    """The trials and their Pareto front, as a figure that a notebook shows.

    One panel for two objectives; for more a panel per pair, where a member of the front may look dominated; for one
    objective its course over the trials.

    Args:
        study: The study.
        outcome: How it stands.
        pair: Metrics across and up; every pair of objectives if None.
    """
    from autoprune.report._scatter import Course, FrontFigure, Panel, legend, write_numbers

    names = list(outcome.front.objectives)
    pairs = [pair] if pair else [(x, y) for y, x in combinations(names, 2)]
    panels: list[Panel | Course] = [
        Panel(study, outcome, x=x, y=y, alone=len(names) == 2 and {x, y} == set(names)) for x, y in pairs
    ]
    panels = panels or [Course(study, outcome, names[0])]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with _styled():
        size = (6.6 if columns == 1 else 4.3 * columns, 4.6 if rows == 1 else 3.9 * rows)
        figure = FrontFigure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(panels))]
        for axis, panel in zip(axes, panels, strict=True):
            panel.draw(axis)
        legend(figure, axes)
        figure.suptitle(f"{study.name}: {len(outcome.front.points)} of {len(outcome.trials)} trials on the front")
        figure.draw_without_rendering()
        for axis, panel in zip(axes, panels, strict=True):
            write_numbers(axis, panel.numbers())
    return figure


def ratios_figure(study: StudyInfo, outcome: StudyOutcome) -> str:
    """What share of each group's units every member of the front lost: groups down, members across."""
    points = pruned_points(outcome)
    groups = searched_groups(study)
    ratios = [[point.trial.achieved.get(group, 0.0) for point in points] for group in groups]
    first = next(iter(outcome.front.objectives))
    unit = study.units.get(first, "")
    titles = [f"{p.trial.number}\n{number(p.trial.metrics[first].value, unit).removesuffix(' %')}" for p in points]
    width = 2.6 + 0.52 * max(len(points), 4)
    height = 1.4 + 0.2 * max(len(groups), 4)
    with _styled():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(min(width, 16), min(height, 24)), layout="constrained")
        axis = figure.add_subplot()
        axis.grid(False)
        mesh = axis.pcolormesh(ratios, cmap="cividis_r", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axis.set_xticks([place + 0.5 for place in range(len(points))], titles, fontsize=7)
        axis.set_yticks([place + 0.5 for place in range(len(groups))], groups, fontsize=7)
        axis.invert_yaxis()
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        if len(points) <= 20 and len(groups) <= 60:
            for down, row in enumerate(ratios):
                for across, ratio in enumerate(row):
                    colour = "white" if ratio > 0.5 else "#222222"
                    axis.text(
                        across + 0.5, down + 0.5, f"{100 * ratio:.0f}",
                        ha="center", va="center", fontsize=6, color=colour,
                    )  # fmt: skip
        axis.set_xlabel(f"trial, and its {heading(first, unit)}{' (%)' if unit == 'fraction' else ''}")
        bar = figure.colorbar(mesh, ax=axis, shrink=min(1.0, 3 / height), pad=0.02)
        bar.set_label("units removed (%)")
        bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
        bar.outline.set_visible(False)
        figure.suptitle("Pruning ratio of each group, over the front")
        return _svg(figure)


def pruned_points(outcome: StudyOutcome) -> list[FrontPoint]:
    """The members of the front that are not the dense model."""
    return [point for point in outcome.front.points if point.trial.origin != "dense"]


@contextmanager
def _styled() -> Iterator[None]:
    """Our own style, whatever the user's settings are."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks, a layout that is tight
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "autoprune"})
    return buffer.getvalue()
