"""One batch through every component, before the first trial: what does not fit is told at its line of the spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from autoprune.errors import AutopruneError, Mistake
from autoprune.plugin import (
    Choice,
    Cost,
    Data,
    Evaluator,
    ExactEvaluator,
    Group,
    Knob,
    Scorer,
    Split,
    Strategy,
)
from autoprune.spec.document import KeyPath
from autoprune.study.checks import checked_metrics, checked_scores
from autoprune.study.seeding import seeded

if TYPE_CHECKING:
    from autoprune.study.problem import Problem

_SAMPLES = 8
"""Of each split."""


def rehearse(problem: Problem) -> list[Mistake]:
    """What does not fit the model, the task and the data.

    Each scorer ranks one group of each granularity, and each evaluator measures the dense model, on a handful of
    samples; evaluators that time are left out. What they say on so little counts for nothing, and what does not work
    on so little is tried on the whole split. What is arithmetic alone is computed of the least and the most that may be
    cut and transformed.
    """
    few = _few(problem.data)
    return [*_scorers(problem, few), *_strategies(problem), *_arithmetic(problem), *_evaluators(problem, few)]


def _few(data: Data) -> Data:
    def first(split: Split) -> Split:
        return split.part(torch.arange(min(_SAMPLES, len(split))))

    return replace(data, train=first(data.train), validation=first(data.validation), test=first(data.test))


def _scorers(problem: Problem, data: Data) -> Iterator[Mistake]:
    """Groups that no scorer can rank."""
    kinds: dict[str, Group] = {}
    for group in problem.space.cuttable:
        kinds.setdefault(group.granularity, group)
    scorers = [variable.component for variable in problem.space.scorers.values()]
    for group in problem.space.cuttable:
        reasons = []
        for scorer in scorers:
            reason = scorer.refuses(group)
            if reason is None and group is kinds[group.granularity]:
                reason = _fault(problem, partial(_score, problem, scorer, group, data))
            if reason is None:
                break
            reasons.append(f"{scorer.name}: {reason}")
        else:
            fault = f"no scorer can rank {group.name!r}: {'; '.join(reasons)}"
            yield problem.spec.document.mistake(("scorer",), fault)


def _score(problem: Problem, scorer: Scorer, group: Group, data: Data) -> None:
    network = problem.structure.cut(problem.network, {}).eval()
    contexts = replace(problem.contexts, data=data)
    context = contexts.scoring(network, problem.predictor, groups=problem.space.cuttable, seed=problem.spec.search.seed)
    checked_scores(scorer.score(group, context), group)


def _strategies(problem: Problem) -> Iterator[Mistake]:
    strategies = list(problem.space.strategies.values())
    for index, variable in enumerate(strategies):
        strategy: Strategy = variable.component
        if reason := strategy.refuses(problem.data):
            yield problem.spec.document.mistake(_at("strategy", index, len(strategies)), reason)


def _arithmetic(problem: Problem) -> Iterator[Mistake]:
    """Of transforms, alone and one after the other, and of evaluators that need nothing else."""
    cut_units = np.array([(group.fewest, group.most) for group in problem.space.searched], dtype=np.int64).T
    for end in (0, 1):
        choices = {knob.name: _ends(knob)[end] for knob in problem.space.knobs}
        reason = _fault(problem, partial(problem.exact_metrics, cut_units, [choices] * len(cut_units)))
        if reason is not None:
            yield problem.spec.document.mistake(("transforms" if problem.space.steps else "evaluators",), reason)
            return


def _ends(knob: Knob) -> tuple[float | str, float | str]:
    return (knob.options[0], knob.options[-1]) if isinstance(knob, Choice) else (knob.high, knob.low)


def _evaluators(problem: Problem, data: Data) -> Iterator[Mistake]:
    for evaluator in problem.components.evaluators:
        costs = {metric.cost for metric in evaluator.declares(problem.data)}
        if isinstance(evaluator, ExactEvaluator) or costs <= {Cost.TIMING, Cost.EXACT}:
            continue
        reason = _fault(problem, partial(_evaluate, problem, evaluator, data))
        if reason is not None:  # a handful may lack what a metric is of, such as a second class: all samples decide
            reason = _fault(problem, partial(_evaluate, problem, evaluator, problem.data))
        if reason is not None:
            at = problem.components.place(evaluator)
            yield problem.spec.document.mistake(at, f"{evaluator.name}: {reason}")


def _evaluate(problem: Problem, evaluator: Evaluator, data: Data) -> None:
    contexts = replace(problem.contexts, data=data)
    context = contexts.evaluating(
        problem.predictor, seed=problem.spec.search.seed, cache={}, split="validation", costs=problem.costs()
    )
    copy = problem.structure.cut(problem.network, {}).eval()
    checked_metrics(evaluator.evaluate(problem.predictor(copy), context), evaluator, problem.data)


def _fault(problem: Problem, run: Callable[[], object]) -> str | None:
    """What a component raises, in one line."""
    try:
        with seeded(problem.spec.search.seed, problem.device):
            run()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - components may raise anything
        text = " ".join(str(error).split())[:500]
        return text if isinstance(error, AutopruneError) else f"{type(error).__name__}: {text}"
    return None


def _at(key: str, index: int, count: int) -> KeyPath:
    return (key,) if count == 1 else (key, index)
