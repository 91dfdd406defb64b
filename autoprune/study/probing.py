"""What is asked between trials: the effects of cuts of one group, and whether bfloat16 serves."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from autoprune.plugin import Batch
from autoprune.plugin.data import mapped
from autoprune.study.jobs import Calibrated, Cut, Effect, Probe, Probed
from autoprune.study.precision import SAMPLES, fitting
from autoprune.study.prober import Prober
from autoprune.study.problem import Problem
from autoprune.study.proposal import Precision
from autoprune.study.pruning import Pruning
from autoprune.study.scoring import Scoring
from autoprune.study.seeding import seeded
from autoprune.study.stages import Stages
from autoprune.toolkit.copies import duplicate


class Probing:
    """Answers probes, on a fixed random choice of validation samples."""

    def __init__(self, problem: Problem, scoring: Scoring, pruning: Pruning) -> None:
        self._problem = problem
        self._pruning = pruning
        self._scoring = scoring
        self._batches: dict[int, Batch] = {}
        self._probers: dict[tuple[int, Precision], Prober] = {}

    def calibrate(self) -> Calibrated:
        """Whether trials may use bfloat16."""
        problem = self._problem
        inputs, targets = self._probed(SAMPLES)
        network = problem.folded(problem.network)
        with torch.no_grad():
            precision = fitting(
                lambda p: inputs.feed(problem.predictor(network, p)),
                targets,
                task=problem.components.task,
                device=problem.device,
                macs=problem.structure.dense_costs.macs,
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
        except (Exception, SystemExit) as error:  # noqa: BLE001 - components may raise anything
            return Effect(cut=cut, reason=stages.reason(error))
        return Effect(cut=cut, divergence=divergence, agreement=agreement)

    def _prober(self, samples: int, precision: Precision) -> Prober:
        key = (samples, precision)
        if key not in self._probers:
            problem, (inputs, targets) = self._problem, self._probed(samples)
            self._probers[key] = Prober(
                problem.structure,
                self._scratch,
                lambda network: inputs.feed(problem.predictor(network, precision)),
                problem.components.task,
                targets,
                self._pruning.recover_alone,
            )
        return self._probers[key]

    @cached_property
    def _scratch(self) -> nn.Module:
        """A copy of the dense network for probers."""
        return duplicate(self._problem.network).eval()

    def _probed(self, samples: int) -> Batch:
        """Validation samples, on the device."""
        split = self._problem.data.validation
        count = min(samples, len(split))
        if count not in self._batches:
            chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
            inputs, targets = split.fetch(chosen)
            device = self._problem.device
            self._batches[count] = inputs.to(device), mapped(lambda tensor: tensor.to(device), targets)
        return self._batches[count]
