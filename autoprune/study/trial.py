"""One trial: exact arithmetic, then score, cut, recover, transform, and measure, cheapest evaluator first."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.errors import TrialError
from autoprune.plugin import Costs, Evaluator, Measured, Pruned, TrialResult
from autoprune.structure import Plan, read_recipe, write_pruned
from autoprune.structure.verify.predictions import predicts_the_same
from autoprune.study.exporting import export
from autoprune.study.guards import Watched
from autoprune.study.jobs import Calibrated, Export, Exported, Join, Joined, Probe, Probed, Remeasure, Remeasured
from autoprune.study.measuring import Measuring, quickest_first
from autoprune.study.models import model_folder, refined_folder
from autoprune.study.naming import numbered
from autoprune.study.native_memory import FreedMemory
from autoprune.study.probing import Probing
from autoprune.study.problem import Problem
from autoprune.study.proposal import Proposal
from autoprune.study.pruning import Pruning
from autoprune.study.record import Record
from autoprune.study.rejection import GivenUp, Race
from autoprune.study.scoring import Scoring
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages

_MOST_TRACEBACK = 20_000


class Runner:
    """Runs trials of a problem, one after the other.

    Scorers and evaluators are seeded by the study's seed, so that all candidates meet the same scores, samples and
    noise; strategies, recoveries and transforms by the trial's.
    """

    def __init__(self, problem: Problem, study: Path) -> None:
        """Runs trials of a problem.

        Args:
            problem: What is searched.
            study: Folder to save feasible models in.
        """
        self._problem = problem
        self._study = study
        self._freed = FreedMemory()
        self._dense = Watched(problem.network, "the dense network", problem.reload)
        scoring = Scoring(problem)
        self._pruning = Pruning(problem, study, scoring)
        self._probing = Probing(problem, scoring, self._pruning)
        self._measuring = Measuring(problem, study)
        self._kept_for_transforms: dict[Hashable, Any] = {}

    def run(self, proposal: Proposal) -> TrialResult:
        """Run a trial. Whatever a component raises (but for Ctrl-C) makes it a failed one, with the reason."""
        record, stages = Record(self._problem, proposal), Stages(self._problem.device, self._dense.check)
        try:
            return self._run(proposal, record, stages)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - components may raise anything, and memory run out
            reason, where = stages.reason(error), "".join(traceback.format_exception(error))[-_MOST_TRACEBACK:]
        finally:
            self._dense.restore()
            self._measuring.forget()
            self._freed.give_back()
        if self._problem.device.type == "cuda":
            torch.cuda.empty_cache()
        return record.result("failed", reason, stages.durations_s, where)

    def remeasure(self, job: Remeasure) -> Remeasured:
        """Measure on the test split by the evaluators' final versions, in float32."""
        stages, problem = Stages(self._problem.device, self._dense.check), self._problem
        metrics: dict[str, Measured] = {}
        try:
            costs, network = problem.costs(), problem.network
            if not job.dense:
                folder = model_folder(self._study, job.number)
                recipe = read_recipe(folder)
                costs = problem.costs(recipe.cut_units, recipe.bypassed, job.choices)
                network = problem.opened(folder)
            folded = problem.folded(network.eval())
            for evaluator in (each.final() for each in problem.components.evaluators):
                metrics |= self._measuring(
                    evaluator,
                    folded if evaluator.only_predicts else network,
                    costs,
                    split="test",
                    samples=job.samples,
                    stages=stages,
                    of_dense=job.dense,
                )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as in run
            return Remeasured(number=job.number, metrics=metrics, reason=stages.reason(error))
        finally:
            self._dense.restore()
            self._measuring.forget()
        return Remeasured(number=job.number, metrics=metrics, durations_s=stages.durations_s)

    def calibrate(self) -> Calibrated:
        """Whether trials may use bfloat16."""
        return self._probing.calibrate()

    def probe(self, job: Probe) -> Probed:
        """Measure what cuts of one group alone do."""
        return self._probing.probe(job)

    def join(self, job: Join) -> Joined:
        """Measure by an evaluator's final version, in float32, what models come to together on the test split."""
        stages, problem = Stages(self._problem.device, self._dense.check), self._problem
        answer = partial(Joined, evaluator=job.evaluator, numbers=job.numbers)
        try:
            evaluator = numbered(problem.components.evaluators)[job.evaluator].final()
            opened = (problem.opened(model_folder(self._study, number)) for number in job.numbers)
            return answer(metrics=self._measuring.of_front(evaluator, opened, samples=job.samples, stages=stages))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as in run
            return answer(metrics={}, reason=stages.reason(error))
        finally:
            self._dense.restore()

    def export(self, job: Export) -> Exported:
        """Write a saved model in another form."""
        return export(self._problem, job)

    def _run(self, proposal: Proposal, record: Record, stages: Stages) -> TrialResult:
        problem, candidate = self._problem, record.candidate
        dense = proposal.origin == "dense"
        strategy = problem.space.strategies[problem.space.strategy(proposal)].component
        # What a candidate without some blocks costs depends on which ones the strategy leaves out.
        known = dense or not (
            strategy.allocates
            or any(group.owned and candidate.cut_units[group.name] for group in problem.structure.groups)
        )
        costs = self._costs(record, (), dense=dense) if known else None
        if costs is not None:
            record.metrics |= self._measuring.arithmetic(costs, stages)
        # The dense model is what all others are compared with: it is measured even out of bounds.
        if record.broken and not dense:
            return record.result("rejected", record.broken, stages.durations_s)
        if not dense and not problem.space.steps and not strategy.allocates and not any(candidate.cut_units.values()):
            return record.result("rejected", "nothing is pruned: every ratio rounds to no unit", stages.durations_s)
        pruned, plan = self._pruning(proposal, record, stages)
        if costs is None:
            costs = self._costs(record, plan.bypassed, dense=dense)
            record.metrics |= self._measuring.arithmetic(costs, stages)
            if record.broken:
                return record.result("rejected", record.broken, stages.durations_s)
        network = pruned.network if dense else self._transformed(pruned.network, costs, record, stages)
        race = Race(
            () if dense else proposal.rivals,
            objectives=problem.spec.objectives,
            constraints={} if dense else record.bounds,
            # What is made again is compared with what it was, all of it measured.
            error=0.0 if proposal.final else problem.spec.search.early_rejection,
        )
        with stages.stage("cut"):
            folded = problem.folded(network)
        try:
            for evaluator in quickest_first(problem.evaluators, proposal.dense_s):
                if evaluator not in self._measuring.exact:
                    race.look(record.metrics, {})
                    record.metrics |= self._measuring(
                        evaluator,
                        folded if evaluator.only_predicts else network,
                        costs,
                        split="validation",
                        stages=stages,
                        precision=proposal.precision,
                        of_dense=dense,
                        report=partial(_report, evaluator, race, record.metrics),
                    )
        except GivenUp as given_up:
            record.metrics |= given_up.measured
            return record.result("rejected", given_up.reason, stages.durations_s)
        if not record.broken and not race.lost(record.metrics):  # only the front's models are kept
            with stages.stage("save"):
                self._save(proposal, pruned, network, plan, record)
        return record.result("complete", None, stages.durations_s)

    def _costs(self, record: Record, bypassed: Mapping[str, int] | tuple[()], *, dense: bool) -> Costs:
        cut_units = None if dense else record.candidate.cut_units
        return self._problem.costs(cut_units, bypassed, record.choices)

    def _transformed(self, network: nn.Module, costs: Costs, record: Record, stages: Stages) -> nn.Module:
        """The network after every transform.

        Raises:
            TrialError: A transform gave no network, or what it costs is not what the transform computed.
        """
        problem = self._problem
        if not problem.space.steps:
            return network
        for step in problem.space.steps:
            transform, choice = step.made(record.choices)
            context = problem.contexts.transforming(
                problem.predictor, seed=record.seed, cache=self._kept_for_transforms
            )
            with stages.stage(f"transform {transform.name}", transform), seeded(record.seed, problem.device):
                network = transform.apply(network, choice, context)
                if not isinstance(network, nn.Module):
                    raise TrialError(f"returned a {type(network).__name__}, not a network")
                network = network.to(problem.device).eval()
        held = sum(parameter.numel() for parameter in network.parameters()), stored_bytes(network)
        if held != (costs.params, costs.bytes):
            names = ", ".join(step.variable.component.name for step in problem.space.steps)
            raise TrialError(
                f"{names}: the network holds {held[0]} parameters and {held[1]} bytes with its buffers, and the `costs`"
                f" come to {costs.params} and {costs.bytes}"
            )
        return network

    def _save(self, proposal: Proposal, pruned: Pruned, network: nn.Module, plan: Plan, record: Record) -> None:
        problem = self._problem
        folder = (refined_folder if proposal.final else model_folder)(self._study, proposal.number)
        unfinished = model_folder(self._study, proposal.number).with_name(f".{proposal.number}")
        for old in (unfinished, folder):
            shutil.rmtree(old, ignore_errors=True)
        made = [] if proposal.origin == "dense" else [step.made(record.choices) for step in problem.space.steps]
        write_pruned(
            unfinished,
            network,
            plan=plan,
            kept=pruned.kept,
            cut_units=record.candidate.cut_units,
            source=problem.components.model,
            ctx=problem.sources,
            normalization=problem.data.normalization,
            example=problem.structure.example,
            transforms=made,
            plugins=problem.plugin_files,
        )
        examples = problem.structure.example[:1].to(problem.device)
        if not predicts_the_same(network, problem.opened(unfinished), examples):
            shutil.rmtree(unfinished)
            raise TrialError(
                "the saved model predicts otherwise than the network: something was changed that a saved model does not"
                " keep, such as an attribute of a module; what replaces or changes modules is a transform"
            )
        unfinished.rename(folder)


def stored_bytes(network: nn.Module) -> int:
    """Bytes of the parameters and buffers of a network, each once."""
    tensors = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _report(evaluator: Evaluator, race: Race, measured: Mapping[str, Measured], so_far: Mapping[str, Measured]) -> None:
    race.look(measured, {evaluator.metric_name(name): value for name, value in so_far.items()})
