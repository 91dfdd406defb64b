"""The panels of the front's figure: one pair of objectives each, or one objective over the trials."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.values import Measured
from autoprune.report._words import bound_of, label, tested_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_BLUE, _ORANGE, _GREEN, _GREY, _BLACK = "#0072B2", "#E69F00", "#009E73", "#A6A6A6", "#000000"
_MARKERS = {"dense": "*", "ladder": "D", "warm-start": "s", "sampler": "o"}
_SIZES = {"dense": 110, "ladder": 28, "warm-start": 26, "sampler": 26}


class FrontFigure(Figure):
    """A figure that a notebook's cell shows, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a glyph that the font lacks
            self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


@dataclass(frozen=True)
class _Trials:
    study: StudyInfo
    outcome: StudyOutcome

    @cached_property
    def members(self) -> dict[int, FrontPoint]:
        """Members of the front by their numbers."""
        return {point.trial.number: point for point in self.outcome.front.points}

    def having(self, *names: str) -> list[TrialResult]:
        """Complete trials with those metrics, members of the front as they came out in the end."""
        trials = [self.members[t.number].trial if t.number in self.members else t for t in self.outcome.trials]
        return [t for t in trials if t.state == "complete" and all(n in t.metrics for n in names)]

    def bound(self, name: str) -> float | None:
        """A constraint's number."""
        return bound_of(self.study, self.outcome, name)

    def name(self, axis: Axis, name: str) -> None:
        """Label an axis with the objective's name, unit and better side, and its ticks in that unit."""
        unit = self.study.units.get(name, "")
        if unit.startswith("fraction"):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
            unit = unit.replace("fraction", "%", 1)
        elif unit not in ("", "ms", "MB"):
            axis.set_major_formatter(EngFormatter(sep=" "))
        title = label(name, self.study.units.get(name, ""))
        if unit not in ("", "1"):
            title = f"{title} ({unit})"
        if direction := self.outcome.front.objectives.get(name):
            title = f"{title}, {'higher' if direction == 'maximize' else 'lower'} is better"
        axis.set_label_text(title)


@dataclass(frozen=True)
class Panel(_Trials):
    """All trials over one pair of objectives."""

    x: str
    y: str
    alone: bool
    """There is no other objective, so the front is a line."""

    def draw(self, axes: Axes) -> None:
        """Draw the trials, the front with its intervals and test values, the ladder and the bounds."""
        self.name(axes.xaxis, self.x)
        self.name(axes.yaxis, self.y)
        trials = self.having(self.x, self.y)
        ladder = sorted((t for t in trials if t.origin in ("dense", "ladder")), key=lambda t: sum(t.achieved.values()))
        if len(ladder) > 1:
            points = [self._at(t) for t in ladder]
            axes.plot(*zip(*points, strict=True), color=_ORANGE, lw=1, ls=":", zorder=2)
        for trial in trials:
            self._dot(axes, trial)
        members = sorted((t for t in trials if t.number in self.members), key=self._at)
        if self.alone and members:
            style = "steps-post" if self.outcome.front.objectives[self.x] == "minimize" else "steps-pre"
            points = [self._at(t) for t in members]
            axes.plot(*zip(*points, strict=True), color=_BLUE, lw=1.2, drawstyle=style, zorder=3, alpha=0.6)
        for trial in members:
            self._member(axes, trial)
        for draw, bound in ((axes.axvline, self.bound(self.x)), (axes.axhline, self.bound(self.y))):
            if bound is not None:
                draw(bound, color=_BLACK, lw=0.8, ls="--", label="constraint")

    def numbers(self) -> list[tuple[int, float, float]]:
        """Trial number and place of every member of the front."""
        return [(t.number, *self._at(t)) for t in self.having(self.x, self.y) if t.number in self.members]

    def _at(self, trial: TrialResult) -> tuple[float, float]:
        return trial.metrics[self.x].value, trial.metrics[self.y].value

    def _dot(self, axes: Axes, trial: TrialResult) -> None:
        marker, size = _MARKERS[trial.origin], _SIZES[trial.origin]
        shape = {"dense": "dense model", "ladder": "uniform ratio"}.get(trial.origin)
        if trial.number in self.members:
            colour, title, order = _BLUE, f"front, {shape}" if shape else "front", 5
        elif not trial.feasible:
            axes.scatter(*self._at(trial), s=size, marker=marker, facecolors="none", edgecolors=_GREY, lw=0.8,
                         zorder=2, label="breaks a constraint")  # fmt: skip
            return
        else:
            colour = {"dense": _BLACK, "ladder": _ORANGE}.get(trial.origin, _GREY)
            title, order = shape or "dominated", 4 if shape else 2
        axes.scatter(*self._at(trial), s=size, marker=marker, color=colour, lw=0, zorder=order, label=title)

    def _member(self, axes: Axes, trial: TrialResult) -> None:
        x, y = self._at(trial)
        wide, high = _ends(trial.metrics[self.x]), _ends(trial.metrics[self.y])
        if wide or high:
            axes.errorbar(x, y, xerr=wide, yerr=high, fmt="none", ecolor=_BLUE, elinewidth=0.8, alpha=0.5, zorder=4)
        point = self.members[trial.number]
        for metrics, colour, marker, title in (
            (point.searched, _BLUE, "o", "front as it was searched"),
            (point.test, _GREEN, "s", f"front on {self._test}"),
        ):
            if self.x in metrics and self.y in metrics:
                across, up = metrics[self.x].value, metrics[self.y].value
                axes.plot([x, across], [y, up], color=colour, lw=0.7, zorder=3)
                axes.scatter(across, up, s=14, marker=marker, facecolors="white", edgecolors=colour, lw=0.8, zorder=4,
                             label=title)  # fmt: skip

    @property
    def _test(self) -> str:
        return "the test split" if self.outcome.test_part is None else tested_on(self.outcome)


def _ends(measured: Measured) -> list[list[float]] | None:
    """Lengths of the error bar's two halves."""
    if measured.low is None or measured.high is None:
        return None
    return [[max(measured.value - measured.low, 0)], [max(measured.high - measured.value, 0)]]


@dataclass(frozen=True)
class Course(_Trials):
    """One objective over the trials, and the best so far."""

    objective: str

    def draw(self, axes: Axes) -> None:
        """Draw the trials as dots and the best feasible one so far as a line."""
        self.name(axes.yaxis, self.objective)
        axes.set_xlabel("trial")
        best = max if self.outcome.front.objectives[self.objective] == "maximize" else min
        line: list[tuple[int, float]] = []
        for trial in sorted(self.having(self.objective), key=lambda t: t.number):
            value = trial.metrics[self.objective].value
            if not trial.feasible:
                colour, title = "none", "breaks a constraint"
            elif trial.number in self.members:
                colour, title = _BLUE, "best"
            else:
                colour, title = _GREY, "other trials"
            axes.scatter(trial.number, value, s=_SIZES[trial.origin], marker=_MARKERS[trial.origin], zorder=3,
                         facecolors=colour, edgecolors=_GREY if colour == "none" else colour, label=title)  # fmt: skip
            if trial.feasible:
                line.append((trial.number, best(value, line[-1][1]) if line else value))
        if line:
            axes.plot(*zip(*line, strict=True), color=_BLUE, drawstyle="steps-post", lw=1.2, label="best so far")
        if (bound := self.bound(self.objective)) is not None:
            axes.axhline(bound, color=_BLACK, lw=0.8, ls="--", label="constraint")

    def numbers(self) -> list[tuple[int, float, float]]:
        """Trial number and place of the best trial."""
        best = [t for t in self.having(self.objective) if t.number in self.members]
        return [(t.number, t.number, t.metrics[self.objective].value) for t in best]


def legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend under all panels, each entry once, the front first."""
    entries = {title: handle for axis in axes for handle, title in zip(*axis.get_legend_handles_labels(), strict=True)}
    titles = sorted(entries, key=lambda title: (not title.startswith(("front", "best")), title))
    columns = 4 if len(axes) == 1 else 8
    handles = [entries[title] for title in titles]
    figure.legend(handles, titles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def write_numbers(axes: Axes, points: list[tuple[int, float, float]]) -> None:
    """Write trial numbers beside points of the finished layout, leaving out what would be written over another."""
    taken: list[tuple[float, float]] = []
    for number, x, y in points:
        across, up = axes.transData.transform((x, y))
        if all(abs(across - a) > 16 or abs(up - u) > 11 for a, u in taken):
            axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7, zorder=6)
            taken.append((across, up))
