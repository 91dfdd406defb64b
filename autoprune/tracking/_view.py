"""A saved view of MLflow's experiment page: the trials with their objectives, as a table and as trade-off charts.

MLflow keeps shared views in tags of the experiment. Their format is undocumented and may change: where it does, the
link shows the page's default view. A filter in the link would switch the view off, so each study has a view of its own;
of those an experiment keeps the newest few, because the page refuses to save more than forty.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import urlencode

from autoprune.plugin.results import StudyInfo
from autoprune.tracking._records import key

_TAG = "mlflow.sharedViewState.autoprune-"
_MOST_VIEWS = 10
_MOST_GROUPS = 8
_MOST_RUNS = 500
_SECTION = "autoprune-trade-offs"
_FOLDED = ("other", "refined", "test", "whole_test", "achieved", "uncertainty", "violation", "seconds")


@dataclass(frozen=True)
class SharedView:
    """The view of a study's trials."""

    study: StudyInfo
    parent: str
    """Id of the study's run."""

    @property
    def tag(self) -> str:
        """Name of the experiment tag that keeps the view."""
        return _TAG + self.parent

    @property
    def value(self) -> str:
        """Value of that tag."""
        now = int(time.time() * 1000)
        name = f"{self.study.folder.name}: {', '.join(self.study.objectives)}"
        return json.dumps({"name": name[:100], "createdAt": now, "updatedAt": now, "state": self._state()})

    @property
    def query(self) -> str:
        """The query of a link that opens the view."""
        shared = self.tag.removeprefix("mlflow.sharedViewState.")
        return urlencode({"viewStateShareKey": shared, "compareRunsMode": "CHART", "workflowType": "machine_learning"})

    def outdated(self, tags: Mapping[str, str]) -> list[str]:
        """Names of the oldest tags of this kind among the experiment's, where there are too many with this one."""
        ours = [name for name in tags if name.startswith(_TAG) and name != self.tag]
        ours.sort(key=lambda name: _written(tags[name]), reverse=True)
        return ours[_MOST_VIEWS - 1 :]

    def _state(self) -> str:
        objectives = {name: key("objective", name) for name in self.study.objectives}
        others = [name for name in self.study.units if name not in objectives]
        metrics = [*objectives.values(), *(key("test", name) for name in objectives)]
        metrics += [key("other", name) for name in others]
        columns = [f"tags.`autoprune.{tag}`" for tag in ("front", "origin", "state")]
        columns += [f"metrics.`{metric}`" for metric in metrics]
        first, direction = next(iter(self.study.objectives.items()))
        sections = [_section(_SECTION, "Trade-offs", shown=True), _section("objective", "objective", shown=True)]
        state = {
            "searchFilter": f"tags.`mlflow.parentRunId` = '{self.parent}'",
            "orderByKey": f"metrics.`{objectives[first]}`",
            "orderByAsc": direction == "minimize",
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
                "runsCountToCompare": _MOST_RUNS,
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
                "runsCountToCompare": _MOST_RUNS,
            }
        )
        shared = {"metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
        return [{**chart, **shared, "uuid": f"{_SECTION}-{place}"} for place, chart in enumerate(charts)]


def _section(identity: str, name: str, *, shown: bool) -> dict[str, Any]:
    return {
        "uuid": identity, "name": name, "display": shown, "isReordered": True, "deleted": False, "isGenerated": False
    }  # fmt: skip


def _written(value: str) -> int:
    try:
        return int(json.loads(value)["createdAt"])
    except (ValueError, KeyError, TypeError):
        return 0
