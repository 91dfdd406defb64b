"""A bench to try components on: the host's contexts, seeds and checks, around any network and data."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.plugin import (
    Candidate,
    Data,
    EvaluationContext,
    Evaluator,
    Measured,
    PruneContext,
    PrunedModel,
    Recovery,
    ScoreContext,
    Scorer,
    SplitName,
    Strategy,
)
from autoprune.structure import Structure, discover
from autoprune.study.checks import checked_cut, checked_metrics, checked_scores
from autoprune.study.predictor import Predictor, takes_channels_last
from autoprune.study.seeding import seeded
from autoprune.testing.toys import ToyScorer, toy_data, toy_network

_EXAMPLES = 4


class Bench:
    """Runs a component as a search does; what the host refuses raises the `autoprune.TrialError` that it raises there.

    Example:
        >>> bench = Bench()
        >>> bench.measure(MyEvaluator(), cut_units=bench.uniform(0.5))
    """

    def __init__(
        self, network: nn.Module | None = None, data: Data | None = None, *, device: str | torch.device = "cpu"
    ) -> None:
        """Find what can be cut.

        Args:
            network: The dense network, which takes normalised inputs; a `ToyNet` if None.
            data: Its data; that of the `ToyNet` if None.
            device: Where everything runs.
        """
        self.network = toy_network() if network is None else network.cpu().eval()
        self.data = toy_data() if data is None else data
        toys = network is None and data is None
        self.structure = _toy_structure() if toys else discover(self.network, self.examples())
        self._channels_last = takes_channels_last((self.network, self.cut({})), self.examples())
        self.device = torch.device(device)
        self.network.to(device)
        self._kept_for_prune: dict[Hashable, Any] = {}
        self._kept_for_evaluation: dict[Hashable, Any] = {}

    def examples(self) -> tuple[Tensor, ...]:
        """A few validation inputs as the network takes them, each of shape (N, …), on the CPU."""
        return _examples(self.data)

    def predictor(self, network: nn.Module) -> nn.Module:
        """The network with the data's normalisation in front, as evaluators get it."""
        return Predictor(network, self.data.normalization, channels_last=self._channels_last).to(self.device)

    def uniform(self, ratio: float) -> dict[str, int]:
        """Units to cut per group, for one ratio everywhere; at least one unit stays."""
        return {g.name: min(round(ratio * g.units), g.units - 1) for g in self.structure.groups}

    def cut(self, cut_units: Mapping[str, int]) -> nn.Module:
        """A smaller copy of the dense network that lost the last so many units of each group."""
        scores = {g.name: torch.arange(g.units, 0, -1.0) for g in self.structure.groups}
        return self.structure.cut(self.network, self.structure.select(scores, cut_units)).eval()

    def score(self, scorer: Scorer, *, seed: int = 0, backwards: bool = False) -> dict[str, Tensor]:
        """Importance per group, of shape (U,).

        Args:
            scorer: What is tried.
            seed: Of the study.
            backwards: Score the last group first.
        """
        network = self.structure.cut(self.network, {}).eval()
        context = ScoreContext(
            device=self.device,
            seed=seed,
            data=self.data,
            model=self.predictor(network),
            network=network,
            groups=self.structure.groups,
        )
        groups = self.structure.groups[::-1] if backwards else self.structure.groups
        with seeded(seed, self.device), untouched(network, gradients=False):
            return {group.name: checked_scores(scorer.score(group, context), group) for group in groups}

    def prune(
        self, strategy: Strategy, cut_units: Mapping[str, int], *, scorer: Scorer | None = None, seed: int = 0
    ) -> PrunedModel:
        """The pruned, recovered model, after the host's check that it lost exactly ``cut_units``."""
        units = {group.name: group.units for group in self.structure.groups}
        candidate = Candidate(
            ratios={name: cut_units.get(name, 0) / count for name, count in units.items()},
            cut_units=dict(cut_units),
        )
        with seeded(seed, self.device), untouched(self.network):
            made = strategy.prune(candidate, self.prune_context(seed=seed, scorer=scorer))
        pruned, _ = checked_cut(made, candidate, self.structure, self.network)
        return pruned

    def recover(self, recovery: Recovery, network: nn.Module, *, seed: int = 0) -> None:
        """Change the network in place."""
        with seeded(seed, self.device), untouched(self.network):
            recovery.recover(network, self.prune_context(seed=seed))

    def prune_context(self, *, seed: int = 0, scorer: Scorer | None = None) -> PruneContext:
        """What strategies and recoveries get; a toy scorer's ranking if none is given."""
        return PruneContext(
            device=self.device,
            seed=seed,
            data=self.data,
            cache=self._kept_for_prune,
            groups=self.structure.groups,
            scores=lambda: self.score(scorer or ToyScorer()),
            select=self.structure.select,
            cut=lambda kept: self.structure.cut(self.network, kept).eval(),
            predictor=self.predictor,
        )

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
        context = EvaluationContext(
            device=self.device,
            seed=seed,
            data=self.data,
            cache=self._kept_for_evaluation,
            split=split,
            dense=self.predictor(self.network),
            costs=self.structure.costs(cut_units or {}),
            dense_costs=self.structure.costs(),
        )
        measured = self.structure.folded(network) if evaluator.only_predicts else network  # as in a search
        with seeded(seed, self.device), untouched(self.network), untouched(measured, what="the measured network"):
            return checked_metrics(evaluator.evaluate(self.predictor(measured), context), evaluator)


@cache
def _toy_structure() -> Structure:
    return discover(toy_network(), _examples(toy_data()))


def _examples(data: Data) -> tuple[Tensor, ...]:
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
