"""Saved views of MLflow's experiment page: a study's front, and all its trials, as tables and trade-off charts.

MLflow keeps shared views in tags of the experiment. Their format is undocumented and may change: where it does, the
link shows the page's default view. A filter in the link would switch the view off, so each study has views of its own;
of those an experiment keeps the newest few, because the page refuses to save more than forty.

The page loads 100 runs, in the order of the view, and draws what it has loaded; "Load more" brings the next 100. No
view can ask for more. So the front has a view that filters by a tag; one that does not fit is loaded in an order in
which its first 100 members are spread over all of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import urlencode

from autoprune.plugin.results import StudyInfo, StudyOutcome
from autoprune.report import picks
from autoprune.toolkit.spacing import spaced
from autoprune.tracking._records import key

PAGE = 100
"""Runs that the page loads at once."""
_ORDER = "autoprune.order"
"""Tag that says in which order the members of a large front are loaded."""
_KIND = "mlflow.sharedViewState."
_TAG = f"{_KIND}autoprune-"
_ALL = "-all"
_MOST_STUDIES = 10
_MOST_GROUPS = 8
_SECTION = "autoprune-trade-offs"
_FOLDED = ("other", "partial", "refined", "test", "whole_test", "uncertainty", "versus_dense", "violation")


@dataclass(frozen=True)
class SharedView:
    """A view of a study's trials: the front and the dense model, or all."""

    study: StudyInfo
    parent: str
    """Id of the study's run."""
    everything: bool = False
    """Whether it shows all trials."""
    shown: int = 0
    """How many runs it has, as far as it is known."""

    @property
    def tag(self) -> str:
        """Name of the experiment tag that keeps the view."""
        return f"{_TAG}{self.parent}{_ALL if self.everything else ''}"

    @property
    def value(self) -> str:
        """Value of that tag."""
        now = int(time.time() * 1000)
        return json.dumps({"name": self.name, "createdAt": now, "updatedAt": now, "state": self._state()})

    @property
    def name(self) -> str:
        """What the page's list of views shows: which runs, and of how many it loads a part at first."""
        what = "all trials" if self.everything else "front"
        if self.shown > PAGE:
            what = f"{PAGE} of {self.shown} {'trials' if self.everything else 'on the front'}"
        return f"{what} · {self.study.folder.name}"[:100]

    @property
    def query(self) -> str:
        """The query of a link that opens the view."""
        return view_query(self.parent, everything=self.everything)

    def _state(self) -> str:
        objectives = {name: key("objective", name) for name in self.study.objectives}
        others = [name for name in self.study.units if name not in objectives]
        metrics = [*objectives.values(), *(key("test", name) for name in objectives)]
        metrics += [key("other", name) for name in others]
        columns = [f"tags.`autoprune.{tag}`" for tag in ("front", "origin", "state")]
        columns += [f"metrics.`{metric}`" for metric in metrics]
        first, direction = next(iter(self.study.objectives.items()))
        spread = not self.everything and self.shown > PAGE
        runs = f"tags.`mlflow.parentRunId` = '{self.parent}'"
        sections = [_section(_SECTION, "Trade-offs", shown=True), _section("objective", "objective", shown=True)]
        state = {
            "searchFilter": runs if self.everything else f"{runs} and tags.`autoprune.shown` = 'front'",
            "orderByKey": f"tags.`{_ORDER}`" if spread else f"metrics.`{objectives[first]}`",
            "orderByAsc": spread or direction == "minimize",
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": columns,
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "SHOW_ALL",
            "compareRunCharts": self._charts(objectives),
            "compareRunSections": sections + [_section(f"autoprune-{name}", name, shown=False) for name in _FOLDED],
            "isAccordionReordered": True,
            "viewMaximized": False,
            "runListHidden": False,
            "groupBy": None,
            "groupsExpanded": {},
            "autoRefreshEnabled": True,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "chartsSearchFilter": "",
        }
        return json.dumps(state, separators=(",", ":"))

    def _charts(self, objectives: dict[str, str]) -> list[dict[str, Any]]:
        charts: list[dict[str, Any]] = [
            {
                "type": "SCATTER",
                "xaxis": {"key": objectives[x], "type": "METRIC"},
                "yaxis": {"key": objectives[y], "type": "METRIC"},
            }
            for y, x in combinations(objectives, 2)
        ]
        groups = [group.name for group in self.study.groups if group.high > 0][:_MOST_GROUPS]
        charts.append(
            {
                "type": "PARALLEL",
                "selectedParams": [key("ratio", name) for name in groups],
                "selectedMetrics": list(objectives.values()),
                "showAllRuns": True,
            }
        )
        shared = {"metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
        return [{**chart, **shared, "uuid": f"{_SECTION}-{place}"} for place, chart in enumerate(charts)]


def view_query(parent: str, *, everything: bool = False) -> str:
    """The query of a link that opens a view of the study whose run that is."""
    shared = f"{_TAG.removeprefix(_KIND)}{parent}{_ALL if everything else ''}"
    return urlencode({"viewStateShareKey": shared, "compareRunsMode": "CHART", "workflowType": "machine_learning"})


def outdated(tags: Mapping[str, str]) -> list[str]:
    """Names of those tags of an experiment that keep views of all but the newest studies."""
    written: dict[str, int] = {}
    for name, value in tags.items():
        if name.startswith(_TAG):
            written[_parent(name)] = max(written.get(_parent(name), 0), _written(value))
    newest = sorted(written, key=lambda parent: written[parent], reverse=True)[:_MOST_STUDIES]
    return [name for name in tags if name.startswith(_TAG) and _parent(name) not in newest]


def shown_on(outcome: StudyOutcome) -> frozenset[int]:
    """Trials that the view of the front shows: its members and the dense model."""
    dense = (trial.number for trial in outcome.trials if (trial.origin, trial.state) == ("dense", "complete"))
    return frozenset(dense) | {point.trial.number for point in outcome.front.points}


def loading_order(study: StudyInfo, outcome: StudyOutcome) -> dict[int, dict[str, str]]:
    """Tags by trial that say in which order the page loads a front that it cannot load at once; else nothing.

    The dense model and the members that the report names are first, then always the member that is farthest from all
    before it.
    """
    shown, points = shown_on(outcome), outcome.front.points
    if len(shown) <= PAGE:
        return {}
    members = [point.trial.number for point in points]
    places = spaced([[point.trial.metrics[name].value for name in outcome.front.objectives] for point in points])
    named = (pick.point.trial.number for pick in picks(study, outcome))
    order = dict.fromkeys([*(shown - set(members)), *named, *(members[place] for place in places)])
    return {number: {_ORDER: f"{place:06}"} for place, number in enumerate(order)}


def _section(identity: str, name: str, *, shown: bool) -> dict[str, Any]:
    return {
        "uuid": identity, "name": name, "display": shown, "columns": 2,
        "isReordered": True, "deleted": False, "isGenerated": False,
    }  # fmt: skip


def _parent(tag: str) -> str:
    return tag.removeprefix(_TAG).removesuffix(_ALL)


def _written(value: str) -> int:
    try:
        return int(json.loads(value)["createdAt"])
    except (ValueError, KeyError, TypeError):
        return 0
