"""The aliases of a registered model: which members of a front bear them."""

from __future__ import annotations

from collections.abc import Iterator

from autoprune.host.binding import bind
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Cost, Evaluator, Metric
from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome
from autoprune.report import picks
from autoprune.report.picks import RULES

ALIASES = {
    "fastest": "the best of the first objective that is a measured time or speed of a forward pass",
    "most-accurate": "the best of the first objective that says how well a model does, without an attack",
    "most-robust": "the best of the first objective that an attack measures and that is to be large",
    **RULES,
}
"""How the member that bears each is found. None is the dense model."""
_TIMES = ("ns", "us", "µs", "ms", "s", "min", "h")


def aliases(study: StudyInfo, outcome: StudyOutcome, host: PluginHost) -> dict[str, FrontPoint]:
    """Who bears which alias; validation counts.

    Args:
        study: The study. Its evaluators tell what their metrics are: names are not looked at.
        outcome: How it stands.
        host: Knows the components.
    """
    found: dict[str, FrontPoint] = {}
    pruned = [point for point in outcome.front.points if point.trial.origin != "dense"]
    for alias, objective in _objectives(study, host):
        if pruned and alias not in found:
            sign = -1 if outcome.front.objectives[objective] == "maximize" else 1
            losses = [sign * point.trial.metrics[objective].value for point in pruned]
            found[alias] = pruned[losses.index(min(losses))]
    for pick in picks(study, outcome):
        found |= dict.fromkeys(pick.names, pick.point)
    return {alias: found[alias] for alias in ALIASES if alias in found}


def _objectives(study: StudyInfo, host: PluginHost) -> Iterator[tuple[str, str]]:
    """Aliases and the objectives that may decide on them, in the study's order."""
    kinds = {
        metric.name: alias
        for evaluator in bind(study.spec, host).evaluators
        for metric in evaluator.produces()
        if (alias := _kind(evaluator, metric))
    }
    yield from ((kinds[name], name) for name in study.objectives if name in kinds)


def _kind(evaluator: Evaluator, metric: Metric) -> str | None:
    if metric.cost == Cost.TIMING and "gradients" not in evaluator.needs:  # a step of training needs them
        timed = any(_is_time(each) for each in evaluator.produces())
        return "fastest" if _is_time(metric) or (timed and metric.unit == "fraction of dense") else None
    if metric.cost == Cost.FORWARD:
        return "most-accurate"
    return "most-robust" if metric.cost == Cost.ATTACK and metric.direction == "maximize" else None


def _is_time(metric: Metric) -> bool:
    """Whether it is a time, or how much is done in one."""
    done, per, time = metric.unit.rpartition("/")
    return time in _TIMES and (metric.direction == "maximize" if per and done else metric.direction == "minimize")
