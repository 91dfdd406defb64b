"""A spec come true: everything that the trials of a study share."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoprune.errors import PluginError, TrialError
from autoprune.host.components import Components
from autoprune.host.plugins import PluginHost
from autoprune.plugin import (
    Choices,
    Component,
    Costs,
    Data,
    Evaluator,
    ExactEvaluator,
    LayerCosts,
    Metric,
    SourceContext,
)
from autoprune.plugin.data import mapped
from autoprune.spec import Spec
from autoprune.structure import Structure, load_pruned
from autoprune.study.contexts import Contexts
from autoprune.study.digests import taking
from autoprune.study.precision import dtype
from autoprune.study.predictor import Predictor
from autoprune.study.proposal import Precision
from autoprune.study.space import Space
from autoprune.study.stages import blaming

T = TypeVar("T")
_FINGERPRINTED = 64


@dataclass(frozen=True)
class Problem:
    """A spec with its names become things: what every trial of the study shares."""

    spec: Spec
    components: Components
    device: torch.device
    data: Data
    network: nn.Module = field(repr=False)
    """The dense network, on the device, in ``eval()``. Never changed."""
    structure: Structure = field(repr=False)
    space: Space
    channels_last: bool
    """Whether the network and its cuts take images in that layout."""
    folds: bool
    """Whether they predict the same with their batch norms folded into the layers before them."""
    host: PluginHost = field(repr=False)
    sources: SourceContext
    """What the sources were loaded with; saved models need it to build their architecture."""

    def reload(self) -> nn.Module:
        """The dense network anew from its source, on the CPU: what is put back where a component changed it."""
        return made_by(nn.Module, self.components.model.load(self.data, self.sources), self.components.model)

    def opened(self, folder: Path) -> nn.Module:
        """A saved model, on the device."""
        # A model that was pruned before is saved as a cut of its first dense model.
        again = self.components.model.pruned_in(self.sources) is not None
        dense = None if again else self.network
        # Its recipe is what this study wrote of its spec.
        return load_pruned(folder, dense=dense, device=self.device, trust=True, host=self.host)

    @cached_property
    def contexts(self) -> Contexts:
        """Makes what components get."""
        return Contexts(
            self.device,
            self.data,
            self.components.task,
            self.network,
            self.structure,
            self.space.cuttable,
            lambda seed: self.components.model.build(replace(self.sources, seed=seed)),
            self.sources,
        )

    @cached_property
    def plugin_files(self) -> tuple[Path, ...]:
        """The single-file plugins that a saved model needs to be opened: those of its transforms and its source."""
        needed = (self.components.model, *(step.variable.component for step in self.space.steps))
        files = (self.host.provider(type(component)).file for component in needed)
        return tuple(dict.fromkeys(file for file in files if file is not None))

    @cached_property
    def fingerprint(self) -> str:
        """Of the network's state and of the first validation samples: whether another problem has the same."""
        digest = blake2b(digest_size=16)
        take = taking(digest)
        for name, value in self.network.state_dict().items():
            digest.update(name.encode())
            if isinstance(value, Tensor):
                take(value)
        inputs, targets = self.data.validation.fetch(torch.arange(min(_FINGERPRINTED, len(self.data.validation))))
        inputs.map(take)
        mapped(take, targets)
        return digest.hexdigest()

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        """Those that every trial is measured by; the others measure the front's members alone."""
        return tuple(each for each in self.components.evaluators if not each.front)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Everything that evaluators make, by the names that objectives use."""
        return {metric.name: metric for each in self.components.evaluators for metric in each.produces(self.data)}

    def costs(
        self, cut_units: Mapping[str, int] | None = None, bypassed: Collection[str] = (), choices: Choices | None = None
    ) -> Costs:
        """Exact costs of a candidate with its transforms, by arithmetic; of the dense model without any.

        Args:
            cut_units: Units that go, per group; of the dense model if None.
            bypassed: Names of the blocks that go.
            choices: The candidate's knobs; the usual ones if None.

        Raises:
            TrialError: A transform cannot tell.
        """
        if cut_units is None:
            return self.structure.dense_costs
        costs = self.structure.costs(cut_units, bypassed)
        if not self.space.steps:
            return costs
        return self._transformed(costs, self.structure.layer_costs(cut_units, bypassed), choices or {})

    def _transformed(
        self,
        costs: Costs,
        layers: Mapping[str, LayerCosts],
        choices: Choices,
        share: Callable[[str], float] = lambda _: 1.0,
    ) -> Costs:
        """Costs with what transforms make of layers; of a layer that may be left out, its share."""
        now: ChainMap[str, LayerCosts] = ChainMap({}, cast("dict[str, LayerCosts]", layers))
        for step in self.space.steps:
            transform, choice = step.made(choices)
            with blaming(transform):
                changed = dict(transform.costs(now, choice))
            if unknown := sorted(name for name in changed if name not in layers):
                fault = f"costs of {unknown[0]!r}, which is no layer of the pruned network"
                raise TrialError(f"transform {transform.name}: {fault}")
            for name, layer in changed.items():
                costs = _exchanged(costs, now[name].costs, layer.costs, share(name))
                now[name] = layer
        return costs

    def exact_metrics(
        self, cut_units: NDArray[np.int64], choices: Sequence[Choices] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Params, macs, bytes, nonzero, and metrics that are arithmetic alone.

        Args:
            cut_units: Units that go, of shape (N, G), in the order of the space's groups.
            choices: The knobs of each candidate; the usual ones if None.

        Returns:
            Of shape (N,) each.

        Raises:
            TrialError: A transform or an evaluator cannot tell.
        """
        exact = [e for e in self.evaluators if isinstance(e, ExactEvaluator)]
        dense = self.structure.dense_costs
        rows = self.structure.cost_table(cut_units)
        if self.space.steps:
            every = zip(rows, self.structure.layer_table(cut_units), choices or [{}] * len(rows), strict=True)
            rows = [self._transformed(costs, layers, chosen, layers.share) for costs, layers, chosen in every]
        metrics = {name: np.array([getattr(costs, name) for costs in rows], dtype=float) for name in vars(dense)}
        for evaluator in exact:
            with blaming(evaluator):
                computed = [evaluator.compute(costs, dense) for costs in rows]
                for name in (metric.name for metric in evaluator.declares(self.data)):
                    metrics[evaluator.metric_name(name)] = np.array([values[name] for values in computed], dtype=float)
        return metrics

    def folded(self, network: nn.Module) -> nn.Module:
        """What predicts the same as a network and is faster, where there is such a thing; else the network itself.

        Args:
            network: The dense network or a cut of it, in ``eval()``.
        """
        return self.structure.folded(network) if self.folds else network

    def predictor(self, network: nn.Module, precision: Precision = "float32") -> Predictor:
        """The network with the data's normalisation in front; shares its parameters.

        Args:
            network: The bare network.
            precision: Of passes without gradients.
        """
        return Predictor(
            network,
            self.data.normalization,
            task=self.components.task,
            precision=dtype(precision),
            channels_last=self.channels_last,
        )


def _exchanged(costs: Costs, before: Costs, after: Costs, share: float) -> Costs:
    more = {name: round(share * (value - getattr(before, name))) for name, value in vars(after).items()}
    return Costs(**{name: value + more[name] for name, value in vars(costs).items()})


def made_by(kind: type[T], made: object, source: Component) -> T:
    """What a source gave.

    Raises:
        PluginError: It is of another kind.
    """
    if not isinstance(made, kind):
        raise PluginError(f"{source.kind} {source.name} gave a {type(made).__name__}, not a {kind.__name__}")
    return made
