"""One trial: exact arithmetic, then score, cut, recover, and measure, cheapest evaluator first."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from autoprune.plugin import (
    Candidate,
    Costs,
    EvaluationContext,
    Evaluator,
    ExactEvaluator,
    Measured,
    PruneContext,
    PrunedModel,
    SplitName,
    TrialResult,
)
from autoprune.plugin.results import TrialState
from autoprune.structure import Plan, load_pruned, read_recipe, save_pruned
from autoprune.study.checks import checked_cut, checked_metrics
from autoprune.study.jobs import Calibrated, Cut, Effect, Probe, Probed, Remeasure, Remeasured
from autoprune.study.native_memory import FreedMemory
from autoprune.study.precision import SAMPLES, fitting
from autoprune.study.prober import Prober
from autoprune.study.problem import Problem
from autoprune.study.rejection import GivenUp, Race
from autoprune.study.scoring import Scoring
from autoprune.study.seeding import derive, seeded
from autoprune.study.space import Precision, Proposal
from autoprune.study.stages import Stages


def _unwatched(measured: Mapping[str, Measured]) -> None:
    """Nobody decides half-way."""


def model_folder(study: Path, number: int) -> Path:
    """Where a study keeps the model of a trial."""
    return study / "models" / str(number)


class Record:
    """A trial's result in the making."""

    def __init__(self, problem: Problem, proposal: Proposal) -> None:
        self._problem = problem
        self._proposal = proposal
        self._started = datetime.now(UTC)
        self.seed = derive(problem.spec.search.seed, proposal.number)
        self.candidate = problem.space.candidate(proposal)
        self.scorers = {
            group: problem.space.scorer(proposal.scorers, group)
            for group, cut in self.candidate.cut_units.items()
            if cut
        }
        """Per group that loses units, whose ranking it is."""
        self.metrics: dict[str, Measured] = {}

    @property
    def violations(self) -> dict[str, float]:
        """Per constraint on what is measured so far, how far it is broken."""
        bounds = self._problem.spec.constraints.items()
        return {name: bound.violation(self.metrics[name].value) for name, bound in bounds if name in self.metrics}

    @property
    def broken(self) -> str:
        """The constraints that do not hold, in words; empty where all do."""
        bounds, broken = self._problem.spec.constraints, [name for name, by in self.violations.items() if by > 0]
        return ", ".join(f"{name} {self.metrics[name].value:g} is not {bounds[name]}" for name in broken)

    def result(
        self, state: TrialState, reason: str | None = None, durations_s: Mapping[str, float] | None = None
    ) -> TrialResult:
        """The trial as it ended."""
        space = self._problem.space
        return TrialResult(
            number=self._proposal.number,
            state=state,
            origin=self._proposal.origin,
            ratios=space.asked(self._proposal),
            achieved=dict(self.candidate.ratios),
            scorers=self.scorers,
            strategy=space.strategy(self._proposal),
            precision=self._proposal.precision,
            metrics=self.metrics,
            violations=self.violations,
            durations_s=dict(durations_s or {}),
            reason=reason,
            seed=self.seed,
            started=self._started,
            finished=datetime.now(UTC),
        )


class Runner:
    """Runs trials of a problem, one after the other, and keeps what they share: scores, batches, the dense model.

    Scorers and evaluators are seeded by the study's seed, so that all candidates meet the same scores, samples and
    noise; strategies and recoveries by the trial's.
    """

    def __init__(self, problem: Problem, study: Path) -> None:
        """Runs trials of a problem.

        Args:
            problem: What is searched.
            study: Folder to save feasible models in.
        """
        self._problem = problem
        self._study = study
        self._dense_costs = problem.structure.costs()
        self._freed = FreedMemory()
        self._probers: dict[tuple[int, Precision], Prober] = {}
        self._scoring = Scoring(problem)
        self._kept_for_prune: dict[Hashable, Any] = {}
        self._kept_for_evaluation: dict[Hashable, Any] = {}

    def run(self, proposal: Proposal) -> TrialResult:
        """Run a trial. Whatever a component raises (but for Ctrl-C) makes it a failed one, with the reason."""
        record, stages = Record(self._problem, proposal), Stages(self._problem.device)
        try:
            return self._run(proposal, record, stages)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - components may raise anything, and memory run out
            reason = stages.reason(error)
        finally:
            self._freed.give_back()
        if self._problem.device.type == "cuda":
            torch.cuda.empty_cache()
        return record.result("failed", reason, stages.durations_s)

    def remeasure(self, job: Remeasure) -> Remeasured:
        """Measure on the test split by the evaluators' final versions."""
        stages, problem = Stages(self._problem.device), self._problem
        metrics: dict[str, Measured] = {}
        try:
            costs, network = self._dense_costs, problem.network
            if not job.dense:
                folder = model_folder(self._study, job.number)
                recipe = read_recipe(folder)
                costs = problem.structure.costs(recipe.cut_units, recipe.bypassed)
                # A model that was pruned before is saved as a cut of its first dense model.
                again = problem.components.model.pruned_in(problem.sources) is not None
                network = load_pruned(folder, dense=None if again else problem.network, device=problem.device)
            for evaluator in problem.components.evaluators:
                metrics |= self._measure(evaluator.final(), network, costs, "test", stages)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as in run
            return Remeasured(number=job.number, metrics=metrics, reason=stages.reason(error))
        return Remeasured(number=job.number, metrics=metrics)

    def calibrate(self) -> Calibrated:
        """Whether trials may use bfloat16."""
        inputs = self._probe_inputs(min(SAMPLES, len(self._problem.data.validation)))
        network = self._problem.folded(self._problem.network)
        with torch.no_grad():
            precision = fitting(
                lambda p: self._problem.predictor(network, p)(*inputs),
                device=self._problem.device,
                macs=self._dense_costs.macs,
            )
        return Calibrated(precision=precision)

    def probe(self, job: Probe) -> Probed:
        """Measure what cuts of one group alone do."""
        return Probed(effects=tuple(self._effect(cut, job) for cut in job.cuts))

    def _effect(self, cut: Cut, job: Probe) -> Effect:
        stages = Stages(self._problem.device)
        try:
            scores = self._scoring.scores(cut.scorer, cut.group, stages)
            with seeded(self._problem.spec.search.seed, self._problem.device):
                divergence, agreement = self._prober(job.samples, job.precision)(cut.group, scores, cut.units)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as in run
            return Effect(cut=cut, reason=stages.reason(error))
        return Effect(cut=cut, divergence=divergence, agreement=agreement)

    def _prober(self, samples: int, precision: Precision) -> Prober:
        key = (samples, precision)
        if key not in self._probers:
            inputs = self._probe_inputs(min(samples, len(self._problem.data.validation)))
            self._probers[key] = Prober(
                self._problem.structure,
                self._scratch,
                lambda network: cast("Tensor", self._problem.predictor(network, precision)(*inputs)),
            )
        return self._probers[key]

    @cached_property
    def _scratch(self) -> nn.Module:
        """A copy of the dense network for probers."""
        return copy.deepcopy(self._problem.network).eval()

    def _probe_inputs(self, samples: int) -> tuple[Tensor, ...]:
        """A fixed random choice of validation samples, on the device."""
        key = ("autoprune.probes", samples)
        if key not in self._kept_for_evaluation:
            split = self._problem.data.validation
            chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:samples]
            inputs, _ = split.fetch(chosen)
            self._kept_for_evaluation[key] = tuple(tensor.to(self._problem.device) for tensor in inputs)
        kept: tuple[Tensor, ...] = self._kept_for_evaluation[key]
        return kept

    def _run(self, proposal: Proposal, record: Record, stages: Stages) -> TrialResult:
        problem, candidate = self._problem, record.candidate
        dense = proposal.origin == "dense"
        exact = [e for e in problem.components.evaluators if isinstance(e, ExactEvaluator)]
        # What a candidate without some blocks costs depends on which ones the strategy leaves out.
        known = not any(group.owned and candidate.cut_units[group.name] for group in problem.structure.groups)
        costs = problem.structure.costs(candidate.cut_units) if known else None
        if costs is not None:
            record.metrics |= self._measure_exact(exact, costs, stages)
        # The dense model is what all others are compared with: it is measured even out of bounds.
        if record.broken and not dense:
            return record.result("rejected", record.broken, stages.durations_s)
        if not dense and not any(candidate.cut_units.values()):
            return record.result("rejected", "nothing is pruned: every ratio rounds to no unit", stages.durations_s)
        pruned, plan = self._pruned(proposal, record, stages)
        if costs is None:
            costs = problem.structure.costs(candidate.cut_units, plan.bypassed)
            record.metrics |= self._measure_exact(exact, costs, stages)
            if record.broken:
                return record.result("rejected", record.broken, stages.durations_s)
        race = Race(
            () if dense else proposal.rivals,
            objectives=problem.spec.objectives,
            constraints={} if dense else problem.spec.constraints,
            error=problem.spec.search.early_rejection,
        )
        with stages.stage("cut"):
            folded = problem.folded(pruned.network)
        try:
            for evaluator in problem.components.evaluators:
                if evaluator not in exact:
                    race.look(record.metrics, {})
                    record.metrics |= self._measure(
                        evaluator,
                        folded if evaluator.only_predicts else pruned.network,
                        costs,
                        "validation",
                        stages,
                        precision=proposal.precision,
                        report=partial(self._report, evaluator, race, record.metrics),
                    )
        except GivenUp as given_up:
            record.metrics |= given_up.measured
            return record.result("rejected", given_up.reason, stages.durations_s)
        if not record.broken and not race.lost(record.metrics):  # only the front's models are kept
            with stages.stage("save"):
                self._save(proposal.number, pruned, plan, candidate)
        return record.result("complete", None, stages.durations_s)

    def _pruned(self, proposal: Proposal, record: Record, stages: Stages) -> tuple[PrunedModel, Plan]:
        problem = self._problem
        if proposal.origin == "dense":
            return PrunedModel(self._cut({}, stages), {}), Plan({})
        strategy = problem.space.strategies[problem.space.strategy(proposal)]
        context = PruneContext(
            device=problem.device,
            seed=record.seed,
            data=problem.data,
            cache=self._kept_for_prune,
            groups=problem.space.cuttable,
            scores=lambda: self._ranked(proposal, record, stages),
            select=problem.structure.select,
            cut=lambda kept: self._cut(kept, stages),
            predictor=lambda network: problem.predictor(network, proposal.precision),
        )
        with stages.stage("recover", strategy), seeded(record.seed, problem.device):
            made = strategy.prune(record.candidate, context)
            pruned, plan = checked_cut(made, record.candidate, problem.structure, problem.network)
        return PrunedModel(pruned.network.to(problem.device).eval(), pruned.kept), plan

    def _cut(self, kept: Mapping[str, Tensor], stages: Stages) -> nn.Module:
        with stages.stage("cut"):
            return self._problem.structure.cut(self._problem.network, kept).eval()

    def _ranked(self, proposal: Proposal, record: Record, stages: Stages) -> dict[str, Tensor]:
        ranked = self._scoring.ranked(proposal.scorers, stages)
        record.scorers |= {group: label for group, (label, _) in ranked.items() if group in record.scorers}
        return {group: scores for group, (_, scores) in ranked.items()}

    def _measure(
        self,
        evaluator: Evaluator,
        network: nn.Module,
        costs: Costs,
        split: SplitName,
        stages: Stages,
        *,
        precision: Precision = "float32",
        report: Callable[[Mapping[str, Measured]], None] = _unwatched,
    ) -> dict[str, Measured]:
        problem = self._problem
        context = EvaluationContext(
            device=problem.device,
            seed=problem.spec.search.seed,
            data=problem.data,
            cache=self._kept_for_evaluation,
            split=split,
            dense=problem.predictor(problem.network.eval(), precision),
            costs=costs,
            dense_costs=self._dense_costs,
            report=report,
        )
        with stages.stage(evaluator.metric_name(evaluator.name), evaluator), seeded(context.seed, problem.device):
            predictor = problem.predictor(network.eval(), precision)
            return checked_metrics(evaluator.evaluate(predictor, context), evaluator)

    def _report(
        self, evaluator: Evaluator, race: Race, measured: Mapping[str, Measured], so_far: Mapping[str, Measured]
    ) -> None:
        race.look(measured, {evaluator.metric_name(name): value for name, value in so_far.items()})

    def _measure_exact(self, evaluators: Sequence[ExactEvaluator], costs: Costs, stages: Stages) -> dict[str, Measured]:
        metrics: dict[str, Measured] = {}
        for evaluator in evaluators:
            with stages.stage(evaluator.metric_name(evaluator.name), evaluator):
                metrics |= checked_metrics(evaluator.compute(costs, self._dense_costs), evaluator)
        return metrics

    def _save(self, number: int, pruned: PrunedModel, plan: Plan, candidate: Candidate) -> None:
        folder = model_folder(self._study, number)
        unfinished = folder.with_name(f".{number}")
        for old in (unfinished, folder):
            shutil.rmtree(old, ignore_errors=True)
        save_pruned(
            unfinished,
            pruned.network,
            plan=plan,
            kept=pruned.kept,
            cut_units=candidate.cut_units,
            source=self._problem.components.model,
            ctx=self._problem.sources,
            normalization=self._problem.data.normalization,
            example=self._problem.structure.example,
        )
        unfinished.rename(folder)
