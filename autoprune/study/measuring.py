"""Runs evaluators on a network, as the host prepares it for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.plugin import Costs, EvaluationContext, Evaluator, ExactEvaluator, Measured, Split, SplitName
from autoprune.study.checks import checked_metrics, checked_together
from autoprune.study.contexts import unwatched
from autoprune.study.guards import Watched
from autoprune.study.once import Once
from autoprune.study.problem import Problem
from autoprune.study.proposal import Precision
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages

_SPARED_S = 0.25
"""What another order has to save of the dense model's trial."""


class Measuring:
    """Measures networks, one after the other, and keeps what they share: batches, the dense model's outputs.

    Evaluators are seeded by the study's seed, so that all candidates meet the same samples and noise.
    """

    def __init__(self, problem: Problem, study: Path) -> None:
        """Has measured nothing.

        Args:
            problem: What is searched.
            study: Folder that keeps what all measurements share.
        """
        self._problem = problem
        self._once = Once(study, problem.spec.search.seed, problem.device)
        self._kept: dict[int | None, dict[Hashable, Any]] = {}
        """By how many samples of a split are used: what is kept of a part is not that of the whole."""
        self._watched: Watched | None = None

    @property
    def exact(self) -> tuple[ExactEvaluator, ...]:
        """The evaluators of trials that need arithmetic alone."""
        return tuple(e for e in self._problem.evaluators if isinstance(e, ExactEvaluator))

    def __call__(
        self,
        evaluator: Evaluator,
        network: nn.Module,
        costs: Costs,
        *,
        split: SplitName,
        stages: Stages,
        samples: int | None = None,
        precision: Precision = "float32",
        of_dense: bool = False,
        report: Callable[[Mapping[str, Measured]], None] = unwatched,
    ) -> dict[str, Measured]:
        """What an evaluator makes of a network, by the names that objectives use.

        Args:
            evaluator: What is asked.
            network: Bare; is not changed.
            costs: Its exact costs.
            split: What it is measured on.
            stages: Of the trial.
            samples: Of the test split, see `part_of`; all if None.
            precision: Of passes without gradients.
            of_dense: Whether it is the dense network.
            report: Told what is known so far.

        Raises:
            TrialError: The evaluator breaks its contract, or changed the network.
        """
        problem = self._problem
        context = self._context(split, costs, samples, precision=precision, of_dense=of_dense, report=report)
        with stages.stage(evaluator.metric_name(evaluator.name), evaluator), seeded(context.seed, problem.device):
            watched = self._watch(network.eval())
            predictor = problem.predictor(network, precision)
            metrics = checked_metrics(evaluator.evaluate(predictor, context), evaluator, problem.data)
            watched.check()
            return metrics

    def of_front(
        self, evaluator: Evaluator, networks: Iterable[nn.Module], *, samples: int | None, stages: Stages
    ) -> dict[str, Measured]:
        """What an evaluator makes of the models of a front together, on the test split.

        Args:
            evaluator: What is asked.
            networks: Bare, and of no further use.
            samples: Of the test split, see `part_of`; all if None.
            stages: Of the job.

        Raises:
            TrialError: The evaluator breaks its contract.
        """
        problem = self._problem
        context = self._context("test", problem.costs(), samples)
        folded = (problem.folded(each.eval()) if evaluator.only_predicts else each.eval() for each in networks)
        with stages.stage(evaluator.metric_name(evaluator.name), evaluator), seeded(context.seed, problem.device):
            return checked_together(evaluator.of_front(map(problem.predictor, folded), context), evaluator)

    def _context(
        self,
        split: SplitName,
        costs: Costs,
        samples: int | None,
        *,
        precision: Precision = "float32",
        of_dense: bool = False,
        report: Callable[[Mapping[str, Measured]], None] = unwatched,
    ) -> EvaluationContext:
        problem = self._problem
        contexts = problem.contexts
        if samples is not None:
            contexts = replace(contexts, data=replace(problem.data, test=part_of(problem.data.test, samples)))
        return contexts.evaluating(
            lambda each: problem.predictor(each, precision),
            seed=problem.spec.search.seed,
            cache=self._kept.setdefault(samples, {}),
            split=split,
            costs=costs,
            of_dense=of_dense,
            # Components know nothing of the part.
            once=lambda key, make: self._once(key if samples is None else f"{key}; {samples} test samples", make),
            report=report,
        )

    def _watch(self, network: nn.Module) -> Watched:
        """Of a network, once, however many evaluators measure it one after the other."""
        if self._watched is None or self._watched.network is not network:
            self._watched = Watched(network, "the model that it measured")
        return self._watched

    def forget(self) -> None:
        """Let go of the network that was measured last."""
        self._watched = None

    def arithmetic(self, costs: Costs, stages: Stages) -> dict[str, Measured]:
        """The metrics that are exact, by the names that objectives use."""
        metrics: dict[str, Measured] = {}
        for evaluator in self.exact:
            with stages.stage(evaluator.metric_name(evaluator.name), evaluator):
                computed = evaluator.compute(costs, self._problem.structure.dense_costs)
                metrics |= checked_metrics(computed, evaluator, self._problem.data)
        return metrics


def quickest_first(evaluators: Sequence[Evaluator], dense_s: Mapping[str, float]) -> list[Evaluator]:
    """In the order in which they are asked: a candidate that one of them shows to be hopeless is spared the others.

    Args:
        evaluators: In the order of what their metrics say that they take.
        dense_s: Seconds that each took of the dense model, by the names of its stages; empty where that is not known.

    Returns:
        The same; one that takes a tenth of those before it, or less, and spares a quarter of a second, is asked before
        them. Smaller differences change nothing: they are the machine's noise, and which metrics a candidate has that
        was given up would hang on it.
    """

    def seconds(evaluator: Evaluator) -> float:
        return dense_s.get(evaluator.metric_name(evaluator.name), 0.0)

    found: list[Evaluator] = []
    for evaluator in evaluators:
        place = len(found)
        while dense_s and place and _worth_it(seconds(evaluator), seconds(found[place - 1])):
            place -= 1
        found.insert(place, evaluator)
    return found


def _worth_it(quicker: float, other: float) -> bool:
    return quicker <= other / 10 and other - quicker >= _SPARED_S


def part_of(split: Split, samples: int) -> Split:
    """So many samples of a split, or all where it has no more: always the same, at random, as it may be in an order."""
    return split.part(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:samples])
