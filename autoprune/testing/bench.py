"""A bench to try components on: the host's contexts, seeds and checks, around any network and data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.host.plugins import PluginHost
from autoprune.plugin import (
    Artifact,
    Candidate,
    Choices,
    Data,
    Evaluator,
    ExportContext,
    Exporter,
    Inputs,
    Measured,
    PruneContext,
    Pruned,
    Recovery,
    Scorer,
    SourceContext,
    SplitName,
    Strategy,
    Task,
    Transform,
)
from autoprune.structure import Structure, discover
from autoprune.study.checks import checked_cut, checked_metrics, checked_scores
from autoprune.study.contexts import Contexts
from autoprune.study.exporting import checked_artifact
from autoprune.study.following import following
from autoprune.study.predictor import Predictor, takes_channels_last
from autoprune.study.seeding import seeded
from autoprune.testing.toys import ToyScorer, toy_data, toy_network
from autoprune.toolkit.copies import duplicate

_EXAMPLES = 4


class Bench:
    """Runs a component as a search does; what the host refuses raises the `autoprune.TrialError` that it raises there.

    Example:
        >>> bench = Bench()
        >>> bench.measure(MyEvaluator(), cut_units=bench.uniform(0.5))
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        data: Data | None = None,
        *,
        task: Task | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Find what can be cut.

        Args:
            network: The dense network, which takes normalised inputs; a `ToyNet` if None.
            data: Its data; that of the `ToyNet` if None.
            task: What right means; the installed task ``classification`` if None.
            device: Where everything runs.
        """
        self.task = Task.model_validate({"use": "classification"}, context=PluginHost()) if task is None else task
        self.network = toy_network() if network is None else network.cpu().eval()
        self.data = following(toy_data() if data is None else data, self.network, self.task)
        toys = network is None and data is None
        self.structure = _toy_structure() if toys else discover(self.network, self.examples(), counts=self.task.pick)
        self._channels_last = takes_channels_last((self.network, self.cut({})), self.examples())
        self.device = torch.device(device)
        self.network.to(device)
        self._kept_for_prune: dict[Hashable, Any] = {}
        self._kept_for_evaluation: dict[Hashable, Any] = {}
        self._made_once: dict[str, dict[str, Tensor]] = {}

    def on(self, data: Data) -> Bench:
        """The same network on other data like its own; nothing is remembered."""
        other = copy.copy(self)
        other.data = data
        other._kept_for_prune, other._kept_for_evaluation, other._made_once = {}, {}, {}
        return other

    def examples(self) -> Inputs:
        """A few validation inputs as the network takes them, each of shape (N, …), on the CPU."""
        return _examples(self.data)

    def predictor(self, network: nn.Module) -> nn.Module:
        """The network with the data's normalisation in front, as evaluators get it."""
        predictor = Predictor(network, self.data.normalization, task=self.task, channels_last=self._channels_last)
        return predictor.to(self.device)

    @property
    def contexts(self) -> Contexts:
        """Makes what components get, as a search does."""
        return Contexts(
            self.device,
            self.data,
            self.task,
            self.network,
            self.structure,
            self.structure.groups,
            lambda seed: _untrained(self.network, seed),
            SourceContext(folder=Path(), cache=Path(), seed=0),
        )

    def uniform(self, ratio: float) -> dict[str, int]:
        """Units to cut per group, for one ratio everywhere; at least one unit stays."""
        return {g.name: min(round(ratio * g.units), g.units - 1) for g in self.structure.groups}

    def cut(self, cut_units: Mapping[str, int]) -> nn.Module:
        """A smaller copy of the dense network that lost the last so many units of each group."""
        return self.pruned(cut_units).network

    def _kept_units(self, cut_units: Mapping[str, int]) -> dict[str, Tensor]:
        scores = {g.name: torch.arange(g.units, 0, -1.0) for g in self.structure.groups}
        return self.structure.select(scores, cut_units)

    def score(self, scorer: Scorer, *, seed: int = 0, backwards: bool = False) -> dict[str, Tensor]:
        """Importance per group, of shape (U,).

        Args:
            scorer: What is tried.
            seed: Of the study.
            backwards: Score the last group first.
        """
        network = self.structure.cut(self.network, {}).eval()
        context = self.contexts.scoring(network, self.predictor, groups=self.structure.groups, seed=seed)
        groups = self.structure.groups[::-1] if backwards else self.structure.groups
        with seeded(seed, self.device), untouched(network, gradients=False):
            return {group.name: checked_scores(scorer.score(group, context), group) for group in groups}

    def prune(
        self, strategy: Strategy, cut_units: Mapping[str, int], *, scorer: Scorer | None = None, seed: int = 0
    ) -> Pruned:
        """The pruned, recovered model, after the host's check that it lost exactly ``cut_units``."""
        units = {group.name: group.units for group in self.structure.groups}
        candidate = Candidate(
            ratios={name: cut_units.get(name, 0) / count for name, count in units.items()},
            cut_units=dict(cut_units),
        )
        with seeded(seed, self.device), untouched(self.network):
            made = strategy.prune(candidate, self.prune_context(seed=seed, scorer=scorer))
        asked = None if strategy.allocates else candidate
        pruned, _, _ = checked_cut(made, asked, self.structure, self.network)
        return pruned

    def recover(self, recovery: Recovery, pruned: Pruned, *, seed: int = 0) -> None:
        """Change the network in place."""
        with seeded(seed, self.device), untouched(self.network):
            recovery.recover(pruned, self.prune_context(seed=seed))

    def recover_alone(self, component: Strategy | Recovery, group: str, units: int) -> tuple[Pruned, bool]:
        """A cut of one group that shares with the dense network what it leaves whole, recovered as for a probe.

        Returns:
            It, and whether anything was recovered.
        """
        kept = {group: self._kept_units({group: units})[group]}
        pruned = Pruned(self.structure.cut(self.network, kept, share=True).eval(), kept)
        with seeded(0, self.device), untouched(self.network):
            return pruned, component.recover_alone(pruned, self.prune_context())

    def pruned(self, cut_units: Mapping[str, int]) -> Pruned:
        """A copy of the dense network that lost the last so many units of each group, for a recovery."""
        kept = self._kept_units(cut_units)
        return Pruned(self.structure.cut(self.network, kept).eval(), kept)

    def prune_context(self, *, seed: int = 0, scorer: Scorer | None = None) -> PruneContext:
        """What strategies and recoveries get; a toy scorer's ranking if none is given."""
        ranking = scorer or ToyScorer()

        def score(pruned: Pruned) -> dict[str, Tensor]:
            if pruned.untouched:
                return self.score(ranking)
            network = self.structure.cut(pruned.network, pruned.kept, before=pruned.kept).eval()
            groups = self.structure.remaining(pruned.kept)
            context = self.contexts.scoring(network, self.predictor, groups=groups, seed=seed)
            return {
                group.name: self.structure.spread(
                    group.name, checked_scores(ranking.score(group, context), group), pruned.kept
                )
                for group in groups
            }

        return self.contexts.pruning(
            self.predictor, seed=seed, cache=self._kept_for_prune, score=score, once=self._once
        )

    def _once(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        if key not in self._made_once:
            self._made_once[key] = {name: tensor.detach().cpu().clone() for name, tensor in make().items()}
        return {name: tensor.clone() for name, tensor in self._made_once[key].items()}

    def transform(self, transform: Transform, network: nn.Module, choice: Choices, *, seed: int = 0) -> nn.Module:
        """The network with modules replaced."""
        context = self.contexts.transforming(self.predictor, seed=seed, cache={})
        with seeded(seed, self.device), untouched(self.network):
            return transform.apply(network, choice, context).eval()

    def measure(
        self,
        evaluator: Evaluator,
        *,
        cut_units: Mapping[str, int] | None = None,
        network: nn.Module | None = None,
        split: SplitName = "validation",
        seed: int = 0,
    ) -> dict[str, Measured]:
        """The metrics, under the names that objectives use.

        Args:
            evaluator: What is tried.
            cut_units: What the measured model lost, for the exact costs; nothing if None.
            network: The measured network; the dense one less ``cut_units`` if None.
            split: What it is measured on.
            seed: Of the study.
        """
        network = self.cut(cut_units or {}) if network is None else network.eval()
        costs = self.structure.costs(cut_units or {})
        context = self.contexts.evaluating(
            self.predictor, seed=seed, cache=self._kept_for_evaluation, split=split, costs=costs, once=self._once
        )
        measured = self.structure.folded(network) if evaluator.only_predicts else network  # as in a search
        with seeded(seed, self.device), untouched(self.network), untouched(measured, what="the measured network"):
            return checked_metrics(evaluator.evaluate(self.predictor(measured), context), evaluator, self.data)

    def export(self, exporter: Exporter, folder: Path, *, network: nn.Module | None = None) -> Artifact:
        """What it wrote, after the host's check that it is there.

        Args:
            exporter: What is tried.
            folder: Where it writes; made if it is not there.
            network: The exported network; the dense one if None.
        """
        folder.mkdir(parents=True, exist_ok=True)
        network = self.cut({}) if network is None else network
        network = network.cpu().eval()
        context = ExportContext(normalization=self.data.normalization, task=self.task)
        with untouched(network, what="the exported network"):
            made = exporter.export(network, self.examples(), folder, context)
            checked_artifact(made, folder)
        return made


def _untrained(network: nn.Module, seed: int) -> nn.Module:
    """A copy with random weights of a seed, wherever modules know how to draw them."""
    new = duplicate(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in new.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return new


@cache
def _toy_structure() -> Structure:
    return discover(toy_network(), _examples(toy_data()))


def _examples(data: Data) -> Inputs:
    inputs, _ = data.validation.fetch(torch.arange(min(_EXAMPLES, len(data.validation))))
    return Predictor(nn.Identity(), data.normalization).normalized(inputs)


@contextmanager
def untouched(network: nn.Module, *, what: str = "the dense network", gradients: bool = True) -> Iterator[None]:
    """Assert that what runs inside leaves a network as it was: weights, buffers, modes, gradients and hooks.

    Args:
        network: What is watched.
        what: What to call it.
        gradients: Whether gradients, and which parameters need one, count too.
    """
    before = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    modes = {name: module.training for name, module in network.named_modules()}
    needed = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    grads = {name: parameter.grad for name, parameter in network.named_parameters()}
    hooks = _hooks(network)
    yield
    after = network.state_dict()
    changed = [n for n in before if n not in after or not torch.equal(before[n], after[n])]
    changed += [n for n in after if n not in before]
    assert not changed, f"{what} was changed: {', '.join(changed[:3])}"
    assert modes == {n: m.training for n, m in network.named_modules()}, f"{what} was left in another mode"
    assert hooks == _hooks(network), f"{what}: hooks were left behind"
    if gradients:
        assert needed == {n: p.requires_grad for n, p in network.named_parameters()}, (
            f"{what}: requires_grad was changed"
        )
        left = [n for n, parameter in network.named_parameters() if parameter.grad is not grads[n]]
        assert not left, f"{what}: gradients were left behind: {', '.join(left[:3])}"


def _hooks(network: nn.Module) -> dict[str, int]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {name: sum(len(getattr(m, kind)) for kind in kinds) for name, m in network.named_modules()}
