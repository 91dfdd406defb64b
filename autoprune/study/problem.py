"""From a spec to everything a trial needs. Whatever can be refused is refused here, before the first trial."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoprune.errors import Mistake, PluginError, SpecError, StructureError
from autoprune.host.binding import Components, bind
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Component, Data, ExactEvaluator, SourceContext
from autoprune.spec import Spec
from autoprune.structure import Structure, discover
from autoprune.study.native_memory import bound_kernel_cache
from autoprune.study.precision import WORTH_IT, dtype
from autoprune.study.predictor import Predictor, predicts_the_same, takes_channels_last
from autoprune.study.space import Precision, Space, bounded, labelled

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
    sources: SourceContext
    """What the sources were loaded with; saved models need it to build their architecture."""

    def exact_metrics(self, cut_units: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Params, macs, bytes, nonzero, and metrics that are arithmetic alone.

        Args:
            cut_units: Units that go, of shape (N, G), in the order of the space's groups.

        Returns:
            Of shape (N,) each.
        """
        exact = [e for e in self.components.evaluators if isinstance(e, ExactEvaluator)]
        dense, rows = self.structure.costs(), self.structure.cost_table(cut_units)
        metrics = {name: np.array([getattr(costs, name) for costs in rows], dtype=float) for name in vars(dense)}
        for evaluator in exact:
            computed = [evaluator.compute(costs, dense) for costs in rows]
            for name in (metric.name for metric in evaluator.metrics):
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
        return Predictor(network, self.data.normalization, precision=dtype(precision), channels_last=self.channels_last)


def resolve(spec: Spec, host: PluginHost, *, worker: int = 0) -> Problem:
    """Load the model and the data, find what can be cut and check the spec against both.

    Args:
        spec: Already checked by itself.
        host: Knows the components.
        worker: Number of the process, which picks one of several graphics cards.

    Raises:
        SpecError: The spec does not fit the machine, the model, the data or its sampler; lists every mistake.
        DataError: The model's or the data's files are missing or malformed.
        StructureError: The model cannot be traced, or none of its units can be cut.
        PluginError: A source breaks its contract.
    """
    components = bind(spec, host)
    mistakes = _unfit_sampler(spec, components)
    device = _device(spec, worker, mistakes)
    if mistakes:
        raise SpecError(mistakes)
    context = SourceContext(folder=spec.document.folder, cache=cache_folder(), seed=spec.search.seed)
    data = _made(Data, components.data.load(context), components.data)
    mistakes += _refusals(spec, components, data)
    network = _made(nn.Module, components.model.load(data, context), components.model).cpu().eval()
    bound_kernel_cache(network)
    inputs, _ = data.validation.fetch(torch.arange(min(_EXAMPLES, len(data.validation))))
    with torch.no_grad():
        examples = Predictor(network, data.normalization).normalized(inputs)
        structure = discover(network, examples, spec.search_space.use, form=spec.search_space.form)
    if not structure.groups:
        raise StructureError("no unit of the model can be cut: " + "; ".join(_reasons(structure)))
    groups, unfit = bounded(spec, structure)
    space = Space(groups, scorers=labelled(components.scorers), strategies=labelled(components.strategies))
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
    return Problem(spec, components, device, data, network.to(device), structure, space, channels_last, folds, context)


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
    return mistakes


def _made(kind: type[T], made: object, source: Component) -> T:
    if not isinstance(made, kind):
        raise PluginError(f"{source.kind} {source.name} gave a {type(made).__name__}, not a {kind.__name__}")
    return made


def _reasons(structure: Structure) -> list[str]:
    return [f"{uncut.layer}: {uncut.reason}" for uncut in structure.uncut[:5]] or [
        "it has no convolution or linear layer"
    ]
