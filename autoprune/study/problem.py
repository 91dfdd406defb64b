"""From a spec to everything a trial needs. Whatever can be refused is refused here, before the first trial."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoprune.errors import Mistake, PluginError, SpecError, StructureError, TrialError
from autoprune.host.binding import bind
from autoprune.host.components import Components
from autoprune.host.metrics import check_metrics
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Batch, Choices, Component, Costs, Data, ExactEvaluator, Metric, SourceContext
from autoprune.spec import Spec
from autoprune.structure import Structure, discover, load_pruned
from autoprune.study.bounds import bounded
from autoprune.study.contexts import Contexts
from autoprune.study.native_memory import bound_kernel_cache
from autoprune.study.precision import WORTH_IT, dtype
from autoprune.study.predictor import Predictor, predicts_the_same, takes_channels_last
from autoprune.study.proposal import Precision
from autoprune.study.rehearsal import rehearse
from autoprune.study.space import Space, labelled, steps

T = TypeVar("T")
_EXAMPLES = 4
"""Validation samples that the model is traced and its cuts are verified with."""


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
        return _made(nn.Module, self.components.model.load(self.data, self.sources), self.components.model)

    def opened(self, folder: Path) -> nn.Module:
        """A saved model, on the device."""
        # A model that was pruned before is saved as a cut of its first dense model.
        again = self.components.model.pruned_in(self.sources) is not None
        dense = None if again else self.network
        return load_pruned(folder, dense=dense, device=self.device, host=self.host)

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
            lambda: self.components.model.build(self.sources),
        )

    @cached_property
    def plugin_files(self) -> tuple[Path, ...]:
        """The single-file plugins that a saved model needs to be opened: those of its transforms and its source."""
        needed = (self.components.model, *(step.variable.component for step in self.space.steps))
        files = (self.host.provider(type(component)).file for component in needed)
        return tuple(dict.fromkeys(file for file in files if file is not None))

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
        """
        costs = self.structure.costs(cut_units or {}, bypassed)
        if cut_units is None or not self.space.steps:
            return costs
        layers = dict(self.structure.layer_costs(cut_units, bypassed))
        for step in self.space.steps:
            transform, choice = step.made(choices or {})
            changed = transform.costs(layers, choice)
            if unknown := sorted(set(changed) - set(layers)):
                raise TrialError(f"costs of {unknown[0]!r}, which is no layer of the pruned network")
            for name, layer in changed.items():
                costs = _exchanged(costs, layers[name].costs, layer.costs)
                layers[name] = layer
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
        """
        exact = [e for e in self.components.evaluators if isinstance(e, ExactEvaluator)]
        dense = self.structure.costs()
        if self.space.steps:
            names = [group.name for group in self.structure.groups]
            rows = [
                self.costs(dict(zip(names, row, strict=True)), choices=None if choices is None else choices[n])
                for n, row in enumerate(cut_units.tolist())
            ]
        else:
            rows = self.structure.cost_table(cut_units)
        metrics = {name: np.array([getattr(costs, name) for costs in rows], dtype=float) for name in vars(dense)}
        for evaluator in exact:
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


def resolve(spec: Spec, host: PluginHost, *, worker: int | None = None) -> Problem:
    """Load the model and the data, find what can be cut and check the spec against both.

    Args:
        spec: Already checked by itself.
        host: Knows the components.
        worker: Number of the worker process, which picks one of several graphics cards; None in the one that begins
            the study, which also runs one batch through all components.

    Raises:
        SpecError: The spec does not fit the machine, the model, the data or its sampler; lists every mistake.
        DataError: The model's or the data's files are missing or malformed.
        StructureError: The model cannot be traced, or none of its units can be cut.
        PluginError: A source breaks its contract.
    """
    components = bind(spec, host)
    mistakes = _unfit_sampler(spec, components)
    device = _device(spec, worker or 0, mistakes)
    if mistakes:
        raise SpecError(mistakes)
    context = SourceContext(folder=spec.document.folder, cache=cache_folder(), seed=spec.search.seed)
    data = _made(Data, components.data.load(context), components.data)
    mistakes += _refusals(spec, components, data)
    mistakes += check_metrics(spec, components, data)
    if mistakes:
        raise SpecError(mistakes)
    network = _made(nn.Module, components.model.load(data, context), components.model).cpu().eval()
    bound_kernel_cache(network)
    inputs, targets = data.validation.fetch(torch.arange(min(_EXAMPLES, len(data.validation))))
    with torch.no_grad():
        predictor = Predictor(network, data.normalization, task=components.task)
        if mistake := _unfit_task(spec, components, predictor, (inputs, targets), data):
            raise SpecError([mistake])
        examples = predictor.normalized(inputs)
        structure = discover(network, examples, spec.search_space.use, form=spec.search_space.form)
    if not structure.groups:
        raise StructureError("no unit of the model can be cut: " + "; ".join(_reasons(structure)))
    if components.transforms and structure.form == "graph":
        reason = "pruned models of this network are exported graphs, whose modules cannot be replaced"
        raise SpecError([spec.document.mistake(("transforms",), reason)])
    groups, unfit = bounded(spec, structure)
    space = Space(
        groups,
        scorers=labelled(components.scorers),
        strategies=labelled(components.strategies),
        steps=steps(components.transforms, network),
        chooses_scorer=components.chooses_scorer,
    )
    mistakes += unfit
    if not mistakes and not space.parameters:
        mistakes.append(spec.document.mistake(("search_space",), "nothing to search: every group has one ratio alone"))
    if mistakes:
        raise SpecError(mistakes)
    cut = structure.cut(network, {}).eval()
    channels_last = takes_channels_last((network, cut), examples)
    # A copy that takes milliseconds does not pay where a whole candidate takes no more than a few hundred.
    folds = structure.costs().macs >= WORTH_IT and all(
        predicts_the_same(each, structure.folded(each), examples) for each in (network, cut)
    )
    problem = Problem(
        spec, components, device, data, network.to(device), structure, space, channels_last, folds, host, context
    )
    if worker is None and (mistakes := rehearse(problem)):
        raise SpecError(mistakes)
    return problem


def _exchanged(costs: Costs, before: Costs, after: Costs) -> Costs:
    return Costs(**{name: value - getattr(before, name) + getattr(after, name) for name, value in vars(costs).items()})


def _unfit_task(spec: Spec, components: Components, predictor: Predictor, batch: Batch, data: Data) -> Mistake | None:
    """What is wrong between task, model and data, told by one batch."""
    inputs, targets = batch
    task = components.task
    try:
        outputs = inputs.feed(predictor)
    except TrialError as error:
        return spec.document.mistake(("task",), f"{task.name}: {error}")
    reason = task.refuses(outputs, targets, data)
    return None if reason is None else spec.document.mistake(("task",), reason)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/autoprune``, or that folder under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoprune"


def _device(spec: Spec, worker: int, mistakes: list[Mistake]) -> torch.device:
    name, cards = spec.device, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not cards):
        return torch.device("cpu")
    index = int(name.removeprefix("cuda:")) if ":" in name else worker % max(cards, 1)
    if index >= cards:
        found = f"there are {cards} CUDA devices" if cards else "PyTorch sees no CUDA device"
        mistakes.append(
            spec.document.mistake(("device",), f"{name} is asked for, but {found}; auto takes what there is")
        )
    return torch.device("cuda", index)


def _unfit_sampler(spec: Spec, components: Components) -> list[Mistake]:
    reason = components.sampler.refuses(spec.objectives)
    return [spec.document.mistake(("search", "sampler"), reason)] if reason else []


def _refusals(spec: Spec, components: Components, data: Data) -> list[Mistake]:
    mistakes = []
    for evaluator in components.evaluators:
        if reason := evaluator.refuses(data):
            same = (evaluator.name, evaluator.label)
            at = next(i for i, r in enumerate(spec.evaluators) if (r["use"], r.get("label", "")) == same)
            mistakes.append(spec.document.mistake(("evaluators", at), reason))
    for index, exporter in enumerate(components.exporters):
        if reason := exporter.refuses():
            mistakes.append(spec.document.mistake(("exporters", index), f"{exporter.name} {reason}"))
    return mistakes


def _made(kind: type[T], made: object, source: Component) -> T:
    if not isinstance(made, kind):
        raise PluginError(f"{source.kind} {source.name} gave a {type(made).__name__}, not a {kind.__name__}")
    return made


def _reasons(structure: Structure) -> list[str]:
    return [f"{uncut.layer}: {uncut.reason}" for uncut in structure.uncut[:5]] or [
        "it has no convolution or linear layer"
    ]
