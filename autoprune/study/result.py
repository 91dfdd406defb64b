"""What a search gives back to Python and, as JSON, to scripts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from autoprune.errors import StudyError
from autoprune.plugin import Artifact, Front, FrontPoint, StudyInfo, StudyOutcome
from autoprune.plugin.values import Direction
from autoprune.report import REPORT_FILES, compromise, front_html, front_plot
from autoprune.spec import Bound, near
from autoprune.spec.fields import BoundField
from autoprune.study.exporting import read_exports
from autoprune.study.reranking import reranked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class SearchResult:
    """A session's end: the front, every trial and the saved models. A notebook's cell shows the report."""

    study: StudyInfo
    outcome: StudyOutcome
    facts: dict[str, str] = field(default_factory=dict)
    """What observers tell, such as the tracker's ``run_id`` and ``url``."""

    @property
    def front(self) -> Front:
        """The Pareto front, measured on the validation and the test split."""
        return self.outcome.front

    @property
    def models(self) -> dict[int, Path]:
        """Folders for `autoprune.load_pruned`, by trial number; the front's models only."""
        return {point.trial.number: point.trial.model for point in self.front.points if point.trial.model is not None}

    def select(self, *where: str, minimize: str | None = None, maximize: str | None = None) -> FrontPoint:
        """One point of the front; validation counts.

        Example:
            >>> point = result.select("accuracy >= 97% of dense", minimize="latency_ms")

        Args:
            where: Metrics and their bounds, as in a spec.
            minimize: Metric of which the least is taken.
            maximize: Metric of which the most is taken; of neither, the best compromise, as the verdict has it.

        Raises:
            StudyError: There is no such metric, a bound is malformed, or no point is within them.
        """
        if minimize is not None and maximize is not None:
            raise StudyError("one metric can be best: say what is minimized, or what is maximized")
        points = list(self.front.points)
        if not points:
            raise StudyError("the front is empty")
        for text in where:
            points = self._within(points, *_named_bound(text))
        wanted = minimize or maximize
        if wanted is None:
            pruned = [point for point in points if point.trial.origin != "dense"]
            return compromise(self.study, self.outcome, pruned or points)
        self._check_metric(wanted)
        known = [point for point in points if wanted in point.trial.metrics]
        best = min if minimize else max
        return best(known, key=lambda point: point.trial.metrics[wanted].value)

    def point(self, number: int) -> FrontPoint:
        """What is known of one trial, on the front or not.

        Raises:
            StudyError: There is no such trial, or it did not complete.
        """
        member = next((point for point in self.front.points if point.trial.number == number), None)
        found = next((trial for trial in self.outcome.trials if trial.number == number), None)
        if found is None:
            raise StudyError(f"there is no trial {number} among {len(self.outcome.trials)}")
        if found.state != "complete":
            raise StudyError(f"trial {number} is {found.state}, and has no model: {found.reason}")
        return member or FrontPoint(trial=found)

    def ranked_by(self, objectives: Mapping[str, Direction]) -> SearchResult:
        """The same trials under other objectives: their front, of what was measured. Nothing is run or written.

        The search looked for what its own objectives ask for, and gave up early what was bad by them: a front under
        others is of what was tried, no more. `models` has what is saved; ``autoprune select --trial`` makes the others.

        Example:
            >>> other = result.ranked_by({"accuracy": "maximize", "size_mb": "minimize"})

        Args:
            objectives: Direction per metric that trials have.

        Raises:
            StudyError: There is no such metric, or no such direction.
        """
        return SearchResult(*reranked(self.study, self.outcome, objectives), self.facts)

    def plot(self, x: str | None = None, y: str | None = None) -> Figure:
        """The trials and the front, as a figure of matplotlib that a notebook's cell shows.

        Args:
            x: Metric across; with ``y`` alone, the first other objective.
            y: Metric up; with ``x`` alone, the first other objective. Of neither, every pair of objectives.

        Raises:
            StudyError: There is no such metric.
        """
        for name in filter(None, (x, y)):
            self._check_metric(name)
        if x is None and y is None:
            return front_plot(self.study, self.outcome)
        other = next((name for name in self.front.objectives if name not in (x, y)), None)
        pair = x or other, y or other
        if pair[0] is None or pair[1] is None:
            raise StudyError(f"there is one objective alone; say what {'x' if x is None else 'y'} is")
        return front_plot(self.study, self.outcome, (pair[0], pair[1]))

    def __repr__(self) -> str:
        return f"SearchResult({self._in_words()}, in {self._shown(self.study.folder)})"

    def _repr_html_(self) -> str:
        """The dense model and the front as a table, then the report to look around in."""
        folder = self.study.folder
        report = folder / REPORT_FILES[0]
        links = [(name, self._shown(path)) for name, path in (("folder", folder), ("report", report)) if path.exists()]
        url = self.facts.get("url", "")
        links += [("tracked", url)] if url.startswith(("http://", "https://")) else []
        return front_html(self.study, self.outcome, caption=self._in_words(), links=links)

    def _in_words(self) -> str:
        states = Counter(trial.state for trial in self.outcome.trials)
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        front = f"front of {len(self.front.points)}, hypervolume {self.front.hypervolume:.4g}"
        stopped = ", interrupted" if self.outcome.interrupted else ""
        count = len(self.outcome.trials)
        return f"{self.study.name}: {count} {'trial' if count == 1 else 'trials'} ({told}){stopped}, {front}"

    def _check_metric(self, name: str) -> None:
        known = {metric for trial in self.outcome.trials for metric in trial.metrics}
        if name not in known:
            raise StudyError(f"no trial has a metric {name!r}{near(name, known)}")

    def _within(self, points: list[FrontPoint], name: str, bound: Bound) -> list[FrontPoint]:
        self._check_metric(name)
        known = [(point, point.trial.metrics[name].value) for point in points if name in point.trial.metrics]
        if bound.of_dense:
            dense = [t.metrics[name].value for t in self.outcome.trials if t.origin == "dense" and name in t.metrics]
            if not dense:
                raise StudyError(f"{name} {bound}: the dense model was not measured")
            bound = bound.at(dense[0])
        within = [point for point, value in known if bound.violation(value) <= 0]
        if known and not within:
            values = sorted(value for _, value in known)
            raise StudyError(f"no point has {name} {bound}: it is {values[0]:.4g} to {values[-1]:.4g}")
        return within

    @staticmethod
    def _shown(path: Path) -> str:
        """Relative where it is inside the current folder."""
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

    @property
    def exports(self) -> dict[int, dict[str, Artifact]]:
        """What the spec's exporters wrote of the front's models: by trial number, then by the exporter's name."""
        return {number: read_exports(model) for number, model in self.models.items()}

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: metrics by name, achieved ratios as ``ratio.<group>``, other knobs as ``knob.<name>``."""
        import pandas as pd

        front = {point.trial.number for point in self.front.points}
        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                "origin": trial.origin,
                "front": trial.number in front,
                "feasible": trial.feasible,
                "scorer": trial.scorer,
                "strategy": trial.strategy,
                "precision": trial.precision,
                **{name: metric.value for name, metric in trial.metrics.items()},
                **{f"ratio.{group}": ratio for group, ratio in trial.achieved.items()},
                **{f"knob.{name}": chosen for name, chosen in trial.knobs.items()},
                "seconds": (trial.finished - trial.started).total_seconds(),
                "reason": trial.reason,
            }
            for trial in self.outcome.trials
        ]
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    def to_json(self) -> dict[str, Any]:
        """The document that ``autoprune search --json`` prints."""
        states = Counter(trial.state for trial in self.outcome.trials)
        exports = self.exports
        return {
            "study": self.study.name,
            "folder": str(self.study.folder),
            "run_id": self.facts.get("run_id"),
            "url": self.facts.get("url"),
            "interrupted": self.outcome.interrupted,
            "trials": {state: states[state] for state in ("complete", "failed", "rejected")},
            "objectives": dict(self.front.objectives),
            "hypervolume": self.front.hypervolume,
            "reference": dict(self.front.reference),
            "together": {name: metric.value for name, metric in self.outcome.together.items()},
            "front": [
                {
                    "trial": point.trial.number,
                    "metrics": {name: metric.value for name, metric in point.trial.metrics.items()},
                    "searched": {name: metric.value for name, metric in point.searched.items()},
                    "test": {name: metric.value for name, metric in point.test.items()},
                    "whole_test": {name: metric.value for name, metric in point.whole_test.items()},
                    "ratios": dict(point.trial.achieved),
                    "knobs": dict(point.trial.knobs),
                    "model": None if point.trial.model is None else str(point.trial.model),
                    "exports": {
                        name: {"path": str(artifact.path), "description": artifact.description}
                        for name, artifact in exports.get(point.trial.number, {}).items()
                    },
                }
                for point in self.front.points
            ],
        }


def _named_bound(text: str) -> tuple[str, Bound]:
    """A metric and its bound, written as ``accuracy >= 97% of dense``."""
    name, relation, value = re.fullmatch(r"\s*(\w*)\s*([<>]=?|=*)\s*(.*)", text).groups()  # type: ignore[union-attr]
    try:
        bound: Bound = TypeAdapter(BoundField).validate_python(f"{relation} {value}")
    except ValidationError as error:
        raise StudyError(f"{name or text}: {error.errors()[0]['ctx']['error']}, behind a metric's name") from error
    return name, bound
