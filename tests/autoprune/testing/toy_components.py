"""Good toy components, which must pass the whole kit, and broken ones, each with the tests that must catch it.

Run by the inner pytest of ``test_conformance_kit.py``; not collected with the other tests.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import subprocess
import sys
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from pydantic import ConfigDict, Field
from torch import nn

from autoprune.errors import StudyError
from autoprune.plugin import (
    Artifact,
    Cost,
    Data,
    DataSource,
    Evaluator,
    ExactEvaluator,
    Executor,
    Exporter,
    Measured,
    Metric,
    ModelSource,
    Normalization,
    Observer,
    Pruned,
    Range,
    Recovery,
    Sampler,
    Split,
    Strategy,
    Task,
    Transform,
)
from autoprune.testing import (
    DataSourceConformance,
    EvaluatorConformance,
    ExecutorConformance,
    ExporterConformance,
    ModelSourceConformance,
    ObserverConformance,
    RecoveryConformance,
    SamplerConformance,
    ScorerConformance,
    StrategyConformance,
    TaskConformance,
    ToyNet,
    ToyScorer,
    TransformConformance,
    toy_data,
    toy_network,
)

CASES = {}
"""Test class to what its failures must say, by test; empty for a component that must pass everything."""

COUNTER = itertools.count()
"""What no seed can hold still."""


def check(kit, **caught):
    """Make a test class that runs a kit on a component class."""

    def register(cls):
        class Test(kit):
            @pytest.fixture
            def component(self):
                return cls()

        Test.__name__ = Test.__qualname__ = f"Test{cls.__name__}"
        Test.__module__ = __name__
        globals()[Test.__name__] = Test
        CASES[Test.__name__] = {f"test_{test}": message for test, message in caught.items()}
        return cls

    return register


# Scorers


check(ScorerConformance)(ToyScorer)


@check(ScorerConformance, scores_every_unit_of_every_group="shape (8, 1), not (8,)")
class WrongShape(ToyScorer):
    """Keeps a dimension too many."""

    name = "wrong-shape"

    def score(self, group, ctx):
        return super().score(group, ctx)[:, None]


@check(ScorerConformance, scores_every_unit_of_every_group="are not all finite")
class NotFinite(ToyScorer):
    """Divides nothing by nothing."""

    name = "not-finite"

    def score(self, group, ctx):
        return super().score(group, ctx) / 0 - torch.inf


@check(ScorerConformance, scores_every_unit_of_every_group="the dense network was changed: stem.weight")
class Writes(ToyScorer):
    """Zeroes the weights that it looks at."""

    name = "writes"

    def score(self, group, ctx):
        ctx.tensor("stem.weight").zero_()
        return super().score(group, ctx)


@check(ScorerConformance, scores_every_unit_of_every_group="the dense network was left in another mode")
class LeavesTrainMode(ToyScorer):
    """Forgets to go back."""

    name = "leaves-train-mode"

    def score(self, group, ctx):
        ctx.model.train()
        return super().score(group, ctx)


@check(ScorerConformance, scores_every_unit_of_every_group="hooks were left behind")
class LeavesHooks(ToyScorer):
    """Watches activations, and goes on watching."""

    name = "leaves-hooks"

    def score(self, group, ctx):
        ctx.network.stem.register_forward_hook(lambda *_: None)
        return super().score(group, ctx)


@check(ScorerConformance, scores_hang_on_the_seed_alone="scores of stem, inner, top differ")
class Chance(ToyScorer):
    """Draws numbers from where no seed reaches."""

    name = "chance"

    def score(self, group, ctx):
        return super().score(group, ctx) + next(COUNTER)


@check(ScorerConformance, scores_do_not_hang_on_the_order_of_groups="scores of stem, inner, top differ")
class Leaks(ToyScorer):
    """Shares with all groups what belongs to the first."""

    name = "leaks"

    def score(self, group, ctx):
        return super().score(group, ctx) + ctx.memo("bonus", lambda: group.units)


# Options


@check(ScorerConformance, it_is_a_component_with_a_name="'Bad Name': write names in lower case")
class BadName(ToyScorer):
    """Cannot well be written in a spec."""

    name = "Bad Name"


@check(ScorerConformance, it_is_described="options without a description: batches")
class Wordless(ToyScorer):
    """Tells nothing of its option."""

    name = "wordless"
    batches: int = 1


@check(ScorerConformance, it_refuses_unknown_options="DID NOT RAISE")
class TakesAnything(ToyScorer):
    """Would never tell of a misspelt option."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name = "takes-anything"


@check(ScorerConformance, it_cannot_be_changed="DID NOT RAISE")
class Changes(ToyScorer):
    """Is not frozen."""

    model_config = ConfigDict(frozen=False)
    name = "changes"
    batches: int = Field(default=1, description="Batches.")


@check(ScorerConformance, it_comes_back_from_its_reference="again == component")
class Forgets(ToyScorer):
    """Leaves an option out of what a study stores."""

    name = "forgets"
    batches: int = Field(default_factory=lambda: next(COUNTER), exclude=True, description="Batches.")


# Strategies


@check(StrategyConformance)
class ToyStrategy(Strategy):
    """Keeps the best units."""

    name = "toy"

    def prune(self, candidate, ctx):
        whole = ctx.start()
        scores = ctx.score(whole)
        kept = {
            group.name: scores[group.name].topk(group.units - candidate.cut_units.get(group.name, 0)).indices.sort()[0]
            for group in ctx.groups
        }
        return ctx.cut(whole, kept)


@check(StrategyConformance, cuts_exactly_what_is_asked="stem lost 1 of its 8 units, not 0")
class OneMore(ToyStrategy):
    """Rounds the other way."""

    name = "one-more"

    def prune(self, candidate, ctx):
        more = {group.name: candidate.cut_units.get(group.name, 0) + 1 for group in ctx.groups}
        return super().prune(replace(candidate, cut_units=more), ctx)


@check(StrategyConformance, cuts_exactly_what_is_asked="as the kept units tell")
class TellsTales(ToyStrategy):
    """Tells of units that it did not cut."""

    name = "tells-tales"

    def prune(self, candidate, ctx):
        return Pruned(ctx.start().network, super().prune(candidate, ctx).kept)


@check(StrategyConformance, cuts_a_single_group="KeyError")
class NeedsEveryGroup(ToyStrategy):
    """Breaks where a group is not cut."""

    name = "needs-every-group"

    def prune(self, candidate, ctx):
        assert all(candidate.cut_units[group.name] >= 0 for group in ctx.groups)
        return super().prune(candidate, ctx)


@check(StrategyConformance, result_hangs_on_the_seed_alone="weights of linear.bias differ")
class Noise(ToyStrategy):
    """Draws numbers from where no seed reaches."""

    name = "noise"

    def prune(self, candidate, ctx):
        made = super().prune(candidate, ctx)
        made.network.linear.bias.data += next(COUNTER)
        return made


@check(StrategyConformance, searches_without_the_splits_that_measure="the validation split was used")
class Peeks(ToyStrategy):
    """Looks at what the search measures."""

    name = "peeks"

    def prune(self, candidate, ctx):
        ctx.data.validation.fetch(torch.arange(4))
        return super().prune(candidate, ctx)


@check(StrategyConformance, what_a_probe_asks_changes_the_cut_layers_alone="the dense network was changed: linear.bias")
class ProbesAsItCuts(ToyStrategy):
    """Takes what a probe cut for its own."""

    name = "probes-as-it-cuts"

    def recover_alone(self, pruned, ctx):
        pruned.network.linear.bias.data += 1
        return True


# Recoveries


@check(RecoveryConformance)
class ToyRecovery(Recovery):
    """A step of gradient descent."""

    name = "toy"

    def recover(self, pruned, ctx):
        inputs, targets = next(ctx.data.train.batches(32, generator=ctx.generator()))
        network = pruned.network
        network.train()
        weight = network.linear.weight
        loss = ctx.task.loss(inputs.feed(ctx.predictor(network)), targets).mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 0.1 * gradient
        network.eval()


@check(RecoveryConformance, what_a_probe_asks_changes_the_cut_layers_alone="the dense network was changed: linear.bias")
class RecoversAll(ToyRecovery):
    """Takes what a probe cut for its own."""

    name = "recovers-all"

    def recover_alone(self, pruned, ctx):
        pruned.network.linear.bias.data += 1
        return True


@check(RecoveryConformance, recovers_in_place="left in train mode")
class StaysInTrainMode(ToyRecovery):
    """Forgets to go back."""

    name = "stays-in-train-mode"

    def recover(self, pruned, ctx):
        super().recover(pruned, ctx)
        pruned.network.top_bn.train()


@check(RecoveryConformance, recovers_in_place="outputs are not all finite")
class Diverges(ToyRecovery):
    """Steps too far."""

    name = "diverges"

    def recover(self, pruned, ctx):
        pruned.network.linear.weight.data *= torch.inf


@check(RecoveryConformance, leaves_nothing_behind="gradients were left behind: linear.bias")
class LeavesGradients(ToyRecovery):
    """Calls backward."""

    name = "leaves-gradients"

    def recover(self, pruned, ctx):
        pruned.network.linear.bias.sum().backward()


@check(RecoveryConformance, leaves_nothing_behind="requires_grad was changed")
class Thaws(ToyRecovery):
    """Trains what the user has frozen, and leaves it so."""

    name = "thaws"

    def recover(self, pruned, ctx):
        pruned.network.requires_grad_(True)


@check(RecoveryConformance, recovers_in_place="tensors changed shape")
class Regrows(ToyRecovery):
    """Brings a layer of its own."""

    name = "regrows"

    def recover(self, pruned, ctx):
        network = pruned.network
        network.linear = nn.LazyLinear(ctx.data.classes + 1)
        next(ctx.data.train.batches(2))[0].feed(ctx.predictor(network))
        network.eval()


@check(RecoveryConformance, result_hangs_on_the_seed_alone="weights of linear.bias differ")
class RecoversByChance(ToyRecovery):
    """Draws numbers from where no seed reaches."""

    name = "recovers-by-chance"

    def recover(self, pruned, ctx):
        pruned.network.linear.bias.data += next(COUNTER)


@check(RecoveryConformance, recovers_without_the_splits_that_measure="the test split was used")
class TrainsOnTheTest(ToyRecovery):
    """Trains on what the front is measured on."""

    name = "trains-on-the-test"

    def recover(self, pruned, ctx):
        next(ctx.data.test.batches(4))


# Evaluators


@check(EvaluatorConformance)
class ToyEvaluator(Evaluator):
    """Share of right predictions."""

    name = "toy"
    metrics = (Metric("toy_accuracy", "fraction", "maximize", Cost.FORWARD, "Share of right predictions."),)

    def evaluate(self, model, ctx):
        inputs, targets = ctx.memo(ctx.split, lambda: next(ctx.data.split(ctx.split).batches(48)))
        with torch.no_grad():
            right = (inputs.feed(model).argmax(1) == targets).float().mean().item()
        return {"toy_accuracy": Measured(value=right, low=right - 0.1, high=right + 0.1, samples=48)}


@check(EvaluatorConformance)
class ToyExact(ExactEvaluator):
    """Parameters left."""

    name = "toy-exact"
    metrics = (Metric("toy_params", "parameters", "minimize", Cost.EXACT, "Parameters."),)

    def compute(self, costs, dense):
        return {"toy_params": costs.params}


@check(EvaluatorConformance)
class ToyTimer(Evaluator):
    """Anything may come out of a timing."""

    name = "toy-timer"
    needs = frozenset()
    metrics = (Metric("toy_ms", "ms", "minimize", Cost.TIMING, "Time."),)

    def evaluate(self, model, ctx):
        return {"toy_ms": float(next(COUNTER))}


@check(EvaluatorConformance, measures_what_it_declares="did not measure toy_accuracy")
class MissesAMetric(ToyEvaluator):
    """Measures something else."""

    name = "misses-a-metric"

    def evaluate(self, model, ctx):
        return {"accuracy": 1.0}


@check(EvaluatorConformance, measures_what_it_declares="toy_accuracy is nan")
class MeasuresNan(ToyEvaluator):
    """Divides nothing by nothing."""

    name = "measures-nan"

    def evaluate(self, model, ctx):
        return {"toy_accuracy": float("nan")}


@check(EvaluatorConformance, measures_what_it_declares="outside its interval [0.4, 0.6]")
class WrongInterval(ToyEvaluator):
    """Has its value outside its own interval."""

    name = "wrong-interval"

    def evaluate(self, model, ctx):
        return {"toy_accuracy": Measured(value=0.9, low=0.4, high=0.6)}


@check(EvaluatorConformance, measures_what_it_declares="the measured network was changed: stem_bn.running_mean")
class MeasuresInTrainMode(ToyEvaluator):
    """Lets batch norm learn from the test images."""

    name = "measures-in-train-mode"

    def evaluate(self, model, ctx):
        model.train()
        return super().evaluate(model, ctx)


@check(EvaluatorConformance, measures_what_it_declares="the dense network was changed: linear.bias")
class ChangesTheDenseModel(ToyEvaluator):
    """Writes into what all candidates are compared with."""

    name = "changes-the-dense-model"

    def evaluate(self, model, ctx):
        ctx.dense.network.linear.bias.data += 1
        return super().evaluate(model, ctx)


@check(EvaluatorConformance, measures_what_it_declares="the measured network: gradients were left behind")
class AttackLeavesGradients(ToyEvaluator):
    """Calls backward."""

    name = "attack-leaves-gradients"

    def evaluate(self, model, ctx):
        model.network.linear.bias.sum().backward()
        return super().evaluate(model, ctx)


@check(EvaluatorConformance, it_reads_no_data_unless_it_needs_it="samples were read")
class PromisesToReadNoData(ToyEvaluator):
    """Reads it."""

    name = "promises-to-read-no-data"
    needs = frozenset()


@check(EvaluatorConformance, targets_change_nothing_unless_it_needs_labels="assert")
class PromisesToNeedNoLabels(ToyEvaluator):
    """Compares with them."""

    name = "promises-to-need-no-labels"
    needs = frozenset({"data"})


@check(EvaluatorConformance, it_asks_for_no_gradients_unless_it_needs_them="does not require grad")
class PromisesToNeedNoGradients(ToyEvaluator):
    """Attacks by them."""

    name = "promises-to-need-no-gradients"
    needs = frozenset({"data", "labels"})

    def evaluate(self, model, ctx):
        inputs, _ = next(ctx.data.split(ctx.split).batches(8))
        with torch.enable_grad():
            torch.autograd.grad(model(inputs.first.requires_grad_()).sum(), inputs.first)
        return super().evaluate(model, ctx)


@check(EvaluatorConformance, values_hang_on_the_seed_alone="assert")
class MeasuresChance(ToyEvaluator):
    """Draws numbers from where no seed reaches."""

    name = "measures-chance"

    def evaluate(self, model, ctx):
        return {"toy_accuracy": 1 / (1 + next(COUNTER))}


@check(EvaluatorConformance, nothing_of_one_model_stays_for_the_next="assert")
class RemembersTheModel(ToyEvaluator):
    """Keeps between models what belongs to the first on a split."""

    name = "remembers-the-model"

    def evaluate(self, model, ctx):
        largest = max(ctx.memo("largest", lambda: ctx.costs.params), ctx.costs.params)
        ctx.cache["largest"] = largest
        return {"toy_accuracy": float(largest)}


@check(EvaluatorConformance, the_final_version_measures_the_same="assert")
class FinallyAnother(ToyEvaluator):
    """Measures the front by another name."""

    name = "finally-another"

    def final(self):
        return self.model_copy(update={"label": "final"})


@check(EvaluatorConformance, exact_values_come_from_arithmetic_alone="assert")
class ClaimsToBeExact(ToyEvaluator):
    """Says that it needs no model, but takes one."""

    name = "claims-to-be-exact"
    metrics = (replace(ToyEvaluator.metrics[0], cost=Cost.EXACT),)


@check(EvaluatorConformance, metrics_are_named_and_described="'toy accuracy' is no identifier")
class BadMetricName(ToyEvaluator):
    """Cannot be an objective."""

    name = "bad-metric-name"
    metrics = (replace(ToyEvaluator.metrics[0], name="toy accuracy"),)


@check(EvaluatorConformance, a_label_keeps_two_of_them_apart="assert")
class IgnoresItsLabel(ToyEvaluator):
    """Makes the same metric with any label."""

    name = "ignores-its-label"

    def metric_name(self, name):
        return name


# Transforms


class Scaled(nn.Module):
    """A linear layer whose outputs are scaled."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.scale = nn.Parameter(torch.ones(linear.out_features))

    def forward(self, x):
        return self.linear(x) * self.scale


@check(TransformConformance)
class ToyTransform(Transform):
    """Scales the classifier's outputs."""

    name = "toy"

    def knobs(self, network):
        return (Range("linear", 0.5, 1.0, usual=1.0),)

    def apply(self, network, choice, ctx):
        inputs, _ = next(ctx.data.train.batches(4))
        network.linear = Scaled(network.linear)
        with torch.no_grad():
            network.linear.scale.mul_(choice["linear"] + 0 * inputs.first.mean())
        return network

    def rebuild(self, network, choice):
        network.linear = Scaled(network.linear)
        return network

    def costs(self, layers, choice):
        linear = layers["linear"]
        more, costs = linear.shapes["weight"][0], linear.costs
        changed = replace(costs, params=costs.params + more, bytes=costs.bytes + 4 * more, nonzero=costs.nonzero + more)
        return {"linear": replace(linear, costs=changed)}


@check(TransformConformance, costs_what_it_computes="params, and `costs` come to")
class CountsNothing(ToyTransform):
    """Forgets what its scales cost."""

    name = "counts-nothing"

    def costs(self, layers, choice):
        return {}


@check(TransformConformance, costs_what_it_computes="bytes, and `costs` come to")
class ForgetsBytes(ToyTransform):
    """Forgets what its scales take to store."""

    name = "forgets-bytes"

    def costs(self, layers, choice):
        right = super().costs(layers, choice)
        return {
            name: replace(layer, costs=replace(layer.costs, bytes=layers[name].costs.bytes))
            for name, layer in right.items()
        }


@check(TransformConformance, is_rebuilt_without_data="assert")
class RebuildsAnother(ToyTransform):
    """Opens saved models with other modules."""

    name = "rebuilds-another"

    def rebuild(self, network, choice):
        made = super().rebuild(network, choice)
        made.linear.register_forward_hook(lambda module, args, output: output * 2)
        return made


@check(TransformConformance, result_hangs_on_the_seed_alone="weights of linear.scale differ")
class ScalesByChance(ToyTransform):
    """Draws numbers from where no seed reaches."""

    name = "scales-by-chance"

    def apply(self, network, choice, ctx):
        made = super().apply(network, choice, ctx)
        made.linear.scale.data += next(COUNTER)
        return made


@check(TransformConformance, calibrates_without_the_splits_that_measure="the test split was used")
class CalibratesOnTheTest(ToyTransform):
    """Calibrates on what the front is measured on."""

    name = "calibrates-on-the-test"

    def apply(self, network, choice, ctx):
        next(ctx.data.test.batches(4))
        return super().apply(network, choice, ctx)


# Tasks


class OutputsAndTargets(TaskConformance):
    @pytest.fixture
    def outputs(self):
        return torch.randn(8, 5, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def targets(self):
        return torch.randn(8, 5, generator=torch.Generator().manual_seed(2))


@check(OutputsAndTargets)
class ToyTask(Task):
    """Right is what has the target's sign."""

    name = "toy"

    def loss(self, outputs, targets):
        return (outputs - targets).square().mean(1)

    def divergence(self, outputs, dense):
        return (outputs - dense).square().mean(1)

    def agreement(self, outputs, dense):
        return ((outputs > 0) == (dense > 0)).double().mean(1)

    def correct(self, outputs, targets):
        return self.agreement(outputs, targets)


@check(OutputsAndTargets, takes_its_own="assert")
class RefusesAll(ToyTask):
    """Is never content."""

    name = "refuses-all"

    def refuses(self, outputs, targets, data):
        return "no"


@check(OutputsAndTargets, loss_has_a_gradient="losses have the shape ()")
class OneLoss(ToyTask):
    """Takes the mean over samples, too."""

    name = "one-loss"

    def loss(self, outputs, targets):
        return super().loss(outputs, targets).mean()


@check(OutputsAndTargets, divergence_is_a_distance_from_the_dense_model="assert")
class Similarity(ToyTask):
    """Takes likeness for distance."""

    name = "similarity"

    def divergence(self, outputs, dense):
        return (outputs * dense).sum(1)


@check(OutputsAndTargets, divergence_has_a_gradient="does not require grad")
class Detached(ToyTask):
    """Compares what it cannot train."""

    name = "detached"

    def divergence(self, outputs, dense):
        return super().divergence(outputs.detach(), dense)


@check(OutputsAndTargets, each_sample_is_by_itself="assert")
class OfTheBatch(ToyTask):
    """Measures losses in units of their mean."""

    name = "of-the-batch"

    def loss(self, outputs, targets):
        loss = super().loss(outputs, targets)
        return loss / loss.mean()


@check(OutputsAndTargets)
class KnowsWhatCounts(ToyTask):
    """Elements count whose targets are positive."""

    name = "knows-what-counts"

    def loss(self, outputs, targets):
        counting = targets > 0.8
        return ((outputs - targets).square() * counting).sum(1) / counting.sum(1).clamp_min(1)

    def divergence(self, outputs, dense, targets=None):
        counting = torch.ones_like(outputs) if targets is None else targets > 0.8
        return ((outputs - dense).square() * counting).sum(1) / counting.sum(1).clamp_min(1)

    def correct(self, outputs, targets):
        counting = targets > 0.8
        return (((outputs > 0) & counting).sum(1) / counting.sum(1).clamp_min(1)).double()

    def counted(self, outputs, targets):
        return (targets > 0.8).sum(1)


@check(OutputsAndTargets, what_does_not_count_is_zero="assert")
class CountsAll(KnowsWhatCounts):
    """Says what counts, and takes the loss of all."""

    name = "counts-all"

    def loss(self, outputs, targets):
        return (outputs - targets).square().mean(1)


@check(OutputsAndTargets, agreement_is_a_share="shares are between 0 and 1", correct_is_a_share="assert")
class CountsElements(ToyTask):
    """Counts, and does not divide."""

    name = "counts-elements"

    def agreement(self, outputs, dense):
        return ((outputs > 0) == (dense > 0)).double().sum(1)


# Samplers


@check(SamplerConformance)
class ToySampler(Sampler):
    """Random proposals."""

    name = "toy"

    def build(self, ctx):
        return optuna.samplers.RandomSampler(seed=ctx.seed)


@check(SamplerConformance)
class OneObjective(ToySampler):
    """Refuses what it cannot do."""

    name = "one-objective"

    def refuses(self, objectives):
        return "not four" if len(objectives) == 4 else None


@check(SamplerConformance, proposals_hang_on_the_seed_alone="the same seed gave other proposals")
class Unseeded(ToySampler):
    """Forgets the seed."""

    name = "unseeded"

    def build(self, ctx):
        return super().build(dataclasses.replace(ctx, seed=None))


@check(
    SamplerConformance,
    proposals_hang_on_the_seed_alone="another seed gave the same proposals",
    proposals_vary="2 different proposals",
)
class OneSeed(ToySampler):
    """Has a seed of its own."""

    name = "one-seed"

    def build(self, ctx):
        return super().build(dataclasses.replace(ctx, seed=0))


@check(SamplerConformance, its_state_is_the_study_alone="assert")
class KeepsState(ToySampler):
    """Counts trials where no journal reaches."""

    name = "keeps-state"

    def build(self, ctx):
        return _Counting(ctx.seed)


class _Counting(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        drawn = super().sample_independent(study, trial, name, distribution)
        seen = vars(study).setdefault("seen", itertools.count())
        return drawn * 0.99 ** next(seen) if name == "ratio.stem" else drawn


@check(SamplerConformance, proposes_within_the_bounds="ratio.stem is -")
class OutOfBounds(ToySampler):
    """Proposes what cannot be cut."""

    name = "out-of-bounds"

    def build(self, ctx):
        return _Below(ctx.seed)


class _Below(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        drawn = super().sample_independent(study, trial, name, distribution)
        return -drawn if name == "ratio.stem" else drawn


@check(SamplerConformance, any_number_of_objectives_works_or_is_refused="index out of range")
class BreaksLate(ToySampler):
    """Does not say at once what it cannot do."""

    name = "breaks-late"

    def build(self, ctx):
        return _Second(ctx.seed)


class _Second(optuna.samplers.RandomSampler):
    def before_trial(self, study, trial):
        study.directions[1]


# Data sources


@check(DataSourceConformance)
class ToySource(DataSource):
    """The toys' data."""

    name = "toy"

    def load(self, ctx):
        return toy_data()


def with_split(data, name, inputs=None, targets=None):
    split = data.split(name)
    found, classes = split.fetch(torch.arange(len(split)))
    images = found.first if inputs is None else inputs(found.first)
    return replace(data, **{name: Split.of_tensors((images,), classes if targets is None else targets(classes))})


@check(DataSourceConformance, splits_share_no_sample="train and validation share 96 samples")
class Overlaps(ToySource):
    """Validates on training samples."""

    name = "overlaps"

    def load(self, ctx):
        return replace(toy_data(), validation=toy_data().train)


@check(DataSourceConformance, splits_share_no_sample="validation and test share 1 samples")
class OverlapsByOne(ToySource):
    """Counts one too far."""

    name = "overlaps-by-one"

    def load(self, ctx):
        first, _ = toy_data().validation.fetch(torch.arange(1))
        return with_split(toy_data(), "test", lambda images: torch.cat([first.first, images[1:]]))


@check(DataSourceConformance, batches_are_well_formed="class 4 of 4")
class CountsFromOne(ToySource):
    """Has a class too many."""

    name = "counts-from-one"

    def load(self, ctx):
        return with_split(toy_data(), "test", targets=lambda targets: targets + 1)


@check(DataSourceConformance, batches_are_well_formed="above the bound 1.0")
class OutOfRange(ToySource):
    """Hands images of 0…255 out as if they were in [0, 1]."""

    name = "out-of-range"

    def load(self, ctx):
        return with_split(toy_data(), "train", lambda images: images * 255)


@check(DataSourceConformance, batches_are_well_formed="test is empty")
class EmptyTest(ToySource):
    """Has nothing to measure the front on."""

    name = "empty-test"

    def load(self, ctx):
        return with_split(toy_data(), "test", lambda images: images[:0], lambda targets: targets[:0])


@check(DataSourceConformance, samples_are_fetched_by_their_index="is another one when it is fetched again")
class HandsOutItsMemory(ToySource):
    """A caller that writes into a batch spoils the data."""

    name = "hands-out-its-memory"

    def load(self, ctx):
        data = toy_data()
        inputs, targets = data.train.fetch(torch.arange(len(data.train)))
        rows = list(inputs.first)

        def read(index):
            if len(index) == 1:
                return (rows[int(index)][None],), targets[index]
            for row in (rows[i] for i in index.tolist()):
                row += 1
            return (torch.stack([rows[i] for i in index.tolist()]) - 1,), targets[index]

        return replace(data, train=Split(len(data.train), read))


def numbers(read_targets):
    """Inputs by name, and whatever targets are read for indices; no classes."""
    whole = torch.arange(60.0).view(30, 2)

    def split(first):
        return Split(10, lambda index: ({"x": whole[first:][index], "mask": index[:, None] < 5}, read_targets(index)))

    return Data(split(0), split(10), split(20))


@check(DataSourceConformance)
class Numbers(ToySource):
    """Has several inputs and targets by name."""

    name = "numbers"

    def load(self, ctx):
        return numbers(lambda index: {"y": index.float(), "weight": torch.ones(len(index), 3)})


@check(DataSourceConformance, batches_are_well_formed="10 samples were asked for; there is a tensor of shape (1,)")
class OneForAllSamples(ToySource):
    """Gives one target for a batch."""

    name = "one-for-all-samples"

    def load(self, ctx):
        return numbers(lambda index: {"y": index.float(), "weight": torch.ones(1)})


@check(DataSourceConformance, samples_are_fetched_by_their_index="is another one when it is fetched again")
class TargetsByPlace(ToySource):
    """Gives a sample the target of its place in the batch."""

    name = "targets-by-place"

    def load(self, ctx):
        return numbers(lambda index: torch.arange(float(len(index))))


@check(DataSourceConformance, loads_the_same_again="train differs")
class SplitsByChance(ToySource):
    """Carves other splits every time."""

    name = "splits-by-chance"

    def load(self, ctx):
        return with_split(toy_data(), "train", lambda images: images / (1 + next(COUNTER)))


@check(DataSourceConformance, normalisation_fits_the_channels="assert")
class NormalisesTwoChannels(ToySource):
    """Has a mean too few."""

    name = "normalises-two-channels"

    def load(self, ctx):
        return replace(toy_data(), normalization=Normalization((0.5, 0.5), (0.2, 0.2)))


# Model sources


@check(ModelSourceConformance)
class ToyModel(ModelSource):
    """The toy net."""

    name = "toy"

    def build(self, ctx):
        return toy_network()

    def load(self, data, ctx):
        return toy_network()


@check(ModelSourceConformance, loads_the_same_again="weights of", leaves_no_trace="random generator was used")
class RandomWeights(ToyModel):
    """Draws its weights from the global generator."""

    name = "random-weights"

    def load(self, data, ctx):
        return ToyNet()


@check(ModelSourceConformance, builds_what_a_saved_model_is_opened_with="assert")
class BuildsAnother(ToyModel):
    """Builds something else to open saved models with."""

    name = "builds-another"

    def build(self, ctx):
        return nn.Linear(2, 2)


@check(ModelSourceConformance, a_new_model_every_time="two models share")
class OneForAll(ToyModel):
    """Hands the same model out every time."""

    name = "one-for-all"

    def load(self, data, ctx):
        return ONE


ONE = toy_network()


@check(ModelSourceConformance, the_model_predicts="outputs are (2, 12)")
class Headless(ToyModel):
    """Gives features in place of classes."""

    name = "headless"

    def load(self, data, ctx):
        network = toy_network()
        network.linear = nn.Identity()
        return network


@check(ModelSourceConformance, the_model_predicts="returns a dict; override the fixture `task`")
class ReturnsADict(ToyModel):
    """Has two outputs and says of neither that it counts."""

    name = "returns-a-dict"

    def load(self, data, ctx):
        network = toy_network()
        network.register_forward_hook(lambda _, __, output: {"a": output, "b": output})
        return network


@check(ModelSourceConformance, leaves_no_trace="sys.path was changed")
class ChangesThePath(ToyModel):
    """Imports from somewhere, and leaves the path open."""

    name = "changes-the-path"

    def load(self, data, ctx):
        sys.path.insert(0, str(ctx.folder))
        return toy_network()


# Executors


class Here:
    """Does jobs in this process, when they are waited for."""

    capacity = 1

    def __init__(self, workplace):
        self.workplace, self.jobs = workplace, deque()

    def submit(self, job):
        self.jobs.append(job)

    def next(self):
        return self.workplace.perform(self.jobs.popleft())

    def cancel(self):
        self.jobs.clear()

    def close(self):
        pass


class Elsewhere(Here):
    """Has jobs done by one worker process, which is not replaced."""

    def __init__(self, workplace):
        super().__init__(workplace)
        command = workplace.command(0, 1)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.get_ready()

    def get_ready(self):
        ready = self.process.stdout.readline()
        if not ready or json.loads(ready):
            self.close()
            raise StudyError(f"the worker cannot load the study: {ready}")

    def next(self):
        if self.process.poll() is not None:
            raise StudyError("there is no worker any more")
        job = self.jobs.popleft()
        self.process.stdin.write(f"{job}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() or self.lost(job)

    def lost(self, job):
        return self.workplace.failed(job, "the worker ended")

    def close(self):
        self.process.kill()
        self.process.communicate()


class Impatient(ExecutorConformance):
    """Waits no longer than a toy needs."""

    patience_s = 5.0


@check(ExecutorConformance)
class ToyExecutor(Executor):
    """Runs trials in this process."""

    name = "toy"

    def open(self, workplace):
        return Here(workplace)


@check(ExecutorConformance)
class ToyProcess(ToyExecutor):
    """Runs trials in another process."""

    name = "toy-process"

    def open(self, workplace):
        return Elsewhere(workplace)


def opens(workers):
    """An executor's way to open such workers."""
    return lambda self, workplace: workers(workplace)


@check(ExecutorConformance, has_room_for_a_job="its capacity is 0")
class NoRoom(ToyExecutor):
    """Says that it can do nothing."""

    name = "no-room"
    open = opens(type("NoRoom", (Here,), {"capacity": 0}))


@check(Impatient, answers_every_job="next() did not come back within 5 s")
class Drops(ToyExecutor):
    """Loses a job out of five."""

    name = "drops"

    def open(self, workplace):
        class Dropping(Here):
            def submit(self, job):
                if next(COUNTER) % 5:
                    super().submit(job)

            def next(self):
                while not self.jobs:
                    threading.Event().wait(0.1)
                return super().next()

        return Dropping(workplace)


@check(ExecutorConformance, answers_every_job='job 0 gave \'"0": n? ? Z?rich')
class AsciiOnly(ToyExecutor):
    """Loses letters on the way."""

    name = "ascii-only"

    def open(self, workplace):
        class Ascii(Here):
            def next(self):
                return super().next().encode("ascii", "replace").decode()

        return Ascii(workplace)


@check(ExecutorConformance, answers_every_job="which nobody submitted")
class MakesUp(ToyExecutor):
    """Counts for itself."""

    name = "makes-up"

    def open(self, workplace):
        class Counting(Here):
            def next(self):
                return json.dumps(json.loads(super().next()) | {"number": 1000})

        return Counting(workplace)


@check(ExecutorConformance, forgets_what_has_not_begun="jobs were done that had not begun")
class ForgetsNothing(ToyExecutor):
    """Goes on to the end."""

    name = "forgets-nothing"
    open = opens(type("ForgetsNothing", (Here,), {"cancel": lambda self: None}))


@check(ExecutorConformance, a_lost_worker_costs_its_job_alone="no worker gave the result ''")
class HandsOnWhatItGets(ToyExecutor):
    """Does not look whether its worker lives."""

    name = "hands-on-what-it-gets"
    open = opens(type("HandsOnWhatItGets", (Elsewhere,), {"lost": lambda self, job: ""}))


@check(ExecutorConformance, a_lost_worker_costs_its_job_alone="its worker died and gave no result; told is")
class GivesNoReason(ToyExecutor):
    """Does not say why a trial failed."""

    name = "gives-no-reason"
    open = opens(type("GivesNoReason", (Elsewhere,), {"lost": lambda self, job: self.workplace.failed(job, "")}))


@check(ExecutorConformance, a_worker_that_cannot_load_ends_it="with the worker's words, not 'something is wrong'")
class Vague(ToyExecutor):
    """Keeps for itself what is wrong."""

    name = "vague"

    def open(self, workplace):
        try:
            return Elsewhere(workplace)
        except StudyError as error:
            raise StudyError("something is wrong") from error


LEFT = []
"""Processes that nobody ends."""


@check(ExecutorConformance, ends_with_all_that_runs="workers are left behind: alive-")
class LeavesBehind(ToyExecutor):
    """Ends nothing."""

    name = "leaves-behind"
    open = opens(type("LeavesBehind", (Elsewhere,), {"close": lambda self: LEFT.append(self.process)}))


@check(ExecutorConformance, does_the_jobs_of_a_search="KeyError: 'text'")
class LooksInside(ToyExecutor):
    """Reads jobs that are none of its business."""

    name = "looks-inside"

    def open(self, workplace):
        class Sorting(Here):
            def submit(self, job):
                self.jobs.append(job)
                self.jobs = deque(sorted(self.jobs, key=lambda each: json.loads(each)["text"]))

        return Sorting(workplace)


# Exporters


@check(ExporterConformance)
class ToyExporter(Exporter):
    """Writes the weights."""

    name = "toy"

    def export(self, model, examples, folder, ctx):
        torch.save(model.state_dict(), folder / "weights.pt")
        return Artifact(folder / "weights.pt", "torch.load opens it")


@check(ExporterConformance)
class NeedsMore(ToyExporter):
    """Cannot run here."""

    name = "needs-more"

    def refuses(self):
        return "needs a package that nobody has"

    def export(self, model, examples, folder, ctx):
        raise AssertionError("it had refused to")


@check(ExporterConformance, refuses_with_a_reason="a refusal needs a reason")
class SaysNothing(ToyExporter):
    """Does not say what it needs."""

    name = "says-nothing"

    def refuses(self):
        return " "


@check(ExporterConformance, writes_what_it_says="says that it wrote weights.onnx, which is not there")
class NamesAnother(ToyExporter):
    """Names a file that it did not write."""

    name = "names-another"

    def export(self, model, examples, folder, ctx):
        return Artifact(super().export(model, examples, folder, ctx).path.with_suffix(".onnx"))


@check(ExporterConformance, writes_what_it_says="weights.pt is empty")
class EmptyFile(ToyExporter):
    """Writes nothing into its file."""

    name = "empty-file"

    def export(self, model, examples, folder, ctx):
        (folder / "weights.pt").touch()
        return Artifact(folder / "weights.pt")


@check(ExporterConformance, writes_what_it_says="IndexError")
class KnowsTheDense(ToyExporter):
    """Counts on the channels of the dense model."""

    name = "knows-the-dense"

    def export(self, model, examples, folder, ctx):
        model.stem.weight[7]
        return super().export(model, examples, folder, ctx)


@check(ExporterConformance, leaves_the_model_as_it_was="the exported network was changed: linear.bias")
class Rounds(ToyExporter):
    """Rounds the weights of the model itself."""

    name = "rounds"

    def export(self, model, examples, folder, ctx):
        with torch.no_grad():
            model.linear.bias.round_()
        return super().export(model, examples, folder, ctx)


@check(ExporterConformance, leaves_the_model_as_it_was="modules were replaced")
class Replaces(ToyExporter):
    """Puts modules of its own in."""

    name = "replaces"

    def export(self, model, examples, folder, ctx):
        model.linear = copy.deepcopy(model.linear)
        return super().export(model, examples, folder, ctx)


@check(ExporterConformance, writes_into_its_folder_alone="wrote here/export.log")
class Logs(ToyExporter):
    """Writes a log where it happens to be."""

    name = "logs"

    def export(self, model, examples, folder, ctx):
        Path("export.log").write_text("exported")
        return super().export(model, examples, folder, ctx)


@check(ExporterConformance, writes_again="and then weights-")
class Counts(ToyExporter):
    """Numbers its files."""

    name = "counts"

    def export(self, model, examples, folder, ctx):
        file = super().export(model, examples, folder, ctx).path
        return Artifact(file.rename(folder / f"weights-{next(COUNTER)}.pt"))


# Observers


@check(ObserverConformance)
class ToyObserver(Observer):
    """Writes down what it is told."""

    name = "toy"

    def study_started(self, study, ctx):
        self.note("started", ctx)
        return {"notes": str(ctx.folder / "notes.txt")}

    def probe_finished(self, study, done, total, ctx):
        self.note(f"{done} of {total}", ctx)

    def trial_finished(self, study, result, ctx):
        self.note(f"{result.number} {result.state}", ctx)

    def study_finished(self, study, outcome, ctx):
        self.note(f"{len(outcome.front.points)} on the front", ctx)

    def note(self, text, ctx):
        with (ctx.folder / "notes.txt").open("a") as file:
            file.write(f"{text}\n")


@check(ObserverConformance)
class WatchesNothing(Observer):
    """Cares for nothing."""

    name = "watches-nothing"


@check(ObserverConformance, takes_what_it_is_told="KeyError: 'accuracy'")
class CountsOnMetrics(ToyObserver):
    """Forgets that trials may fail."""

    name = "counts-on-metrics"

    def trial_finished(self, study, result, ctx):
        self.note(f"{result.metrics['accuracy'].value}", ctx)


@check(ObserverConformance, facts_are_text="facts are text by name, not 'notes': PosixPath")
class TellsAPath(ToyObserver):
    """Tells what is no text."""

    name = "tells-a-path"

    def study_started(self, study, ctx):
        return {"notes": ctx.folder / "notes.txt"}


@check(ObserverConformance, facts_are_text="study_started returns a str")
class TellsAWord(ToyObserver):
    """Tells something without a name."""

    name = "tells-a-word"

    def study_started(self, study, ctx):
        return "notes"


@check(ObserverConformance, changes_nothing_that_it_is_given="it changed the TrialResult that it was given")
class TakesOut(ToyObserver):
    """Takes out what it has read."""

    name = "takes-out"

    def trial_finished(self, study, result, ctx):
        result.metrics.clear()


@check(ObserverConformance, keeps_to_its_folder="it wrote or removed study/notes.txt")
class Strews(ToyObserver):
    """Writes beside the study's own files."""

    name = "strews"

    def study_finished(self, study, outcome, ctx):
        (study.folder / "notes.txt").touch()


@check(ObserverConformance, keeps_to_its_folder="it wrote or removed study/models/1/model.safetensors")
class TidiesUp(ToyObserver):
    """Removes what it does not know."""

    name = "tidies-up"

    def study_finished(self, study, outcome, ctx):
        (study.folder / "models" / "1" / "model.safetensors").unlink(missing_ok=True)


@check(ObserverConformance, goes_on_when_a_study_is_resumed="FileExistsError")
class BeginsAnew(ToyObserver):
    """Does not know that studies are resumed."""

    name = "begins-anew"

    def study_started(self, study, ctx):
        (ctx.folder / "notes").mkdir()


@check(ObserverConformance, takes_a_session_without_a_trial="IndexError")
class WantsAFront(ToyObserver):
    """Names the best of a front that is empty."""

    name = "wants-a-front"

    def study_finished(self, study, outcome, ctx):
        self.note(str(outcome.front.points[0].trial.number), ctx)


# A kit without a component


class TestNothing(ScorerConformance):
    """Forgets the fixture."""


CASES["TestNothing"] = {"test_it_is_described": "TestNothing has to override the fixture `component`"}
