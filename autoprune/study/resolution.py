"""From a spec to a problem. Whatever can be refused is refused here, before the first trial."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from autoprune.errors import Mistake, SpecError, StructureError, TrialError
from autoprune.host.binding import bind
from autoprune.host.components import Components
from autoprune.host.metrics import check_metrics
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Batch, Data, SourceContext
from autoprune.plugin.task import shapes
from autoprune.spec import Spec
from autoprune.structure import Structure, discover
from autoprune.structure.verify.predictions import predicts_the_same
from autoprune.study.bounds import bounded
from autoprune.study.every_sample import faulty_sample
from autoprune.study.following import following
from autoprune.study.native_memory import bound_kernel_cache
from autoprune.study.precision import WORTH_IT
from autoprune.study.predictor import Predictor, takes_channels_last
from autoprune.study.problem import Problem, made_by
from autoprune.study.rehearsal import rehearse
from autoprune.study.space import Space, Step, labelled, steps
from autoprune.toolkit.importing import told
from autoprune.tracking.health import MISSING, installed

_EXAMPLES = 4
"""Validation samples that the model is traced and its cuts are verified with."""


def to_nobody(doing: str) -> None:
    """Nobody hears what is being done."""


def resolve(
    spec: Spec, host: PluginHost, *, worker: int | None = None, tell: Callable[[str], None] = to_nobody
) -> Problem:
    """Load the model and the data, find what can be cut and check the spec against both.

    Args:
        spec: Already checked by itself.
        host: Knows the components.
        worker: Number of the worker process, which picks one of several graphics cards; None in the one that begins
            the study, which also runs one batch through all components.
        tell: Hears, in words, what is being done.

    Raises:
        SpecError: The spec does not fit the machine, the model, the data or its sampler; lists every mistake.
        DataError: The model's or the data's files are missing or malformed.
        StructureError: The model cannot be traced, or none of its units can be cut.
        PluginError: A source breaks its contract.
    """
    components = bind(spec, host)
    mistakes = [*_unfit_sampler(spec, components), *_untracked(spec)]
    device = _device(spec, worker or 0, mistakes)
    if mistakes:
        raise SpecError(mistakes)
    context = SourceContext(spec.document.folder, cache_folder(), spec.search.seed, host.objects)
    tell("loading the data")
    data = made_by(Data, components.data.load(context), components.data)
    mistakes += _refusals(spec, components, data)
    mistakes += check_metrics(spec, components, data)
    if mistakes:
        raise SpecError(mistakes)
    tell("loading the model")
    network = made_by(nn.Module, components.model.load(data, context), components.model).cpu().eval()
    bound_kernel_cache(network)
    tell("tracing the model and verifying its cuts")
    data = following(data, network, components.task)
    inputs, targets = data.validation.fetch(torch.arange(min(_EXAMPLES, len(data.validation))))
    with torch.no_grad():
        predictor = Predictor(network, data.normalization, task=components.task)
        if mistake := _unfit_task(spec, components, predictor, (inputs, targets), data, every=worker is None):
            raise SpecError([mistake])
        examples = predictor.normalized(inputs)
        structure = discover(
            network, examples, spec.search_space.use, form=spec.search_space.form, counts=components.task.pick
        )
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
        steps=_steps(spec, components, network),
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
    folds = structure.dense_costs.macs >= WORTH_IT and all(
        predicts_the_same(each, structure.folded(each), examples) for each in (network, cut)
    )
    problem = Problem(
        spec, components, device, data, network.to(device), structure, space, channels_last, folds, host, context
    )
    tell("running one batch through every component")
    if worker is None and (mistakes := rehearse(problem)):
        raise SpecError(mistakes)
    return problem


def _unfit_task(
    spec: Spec, components: Components, predictor: Predictor, batch: Batch, data: Data, *, every: bool
) -> Mistake | None:
    """What is wrong between task, model and data, told by one batch, and by every sample if so asked."""
    inputs, targets = batch
    task = components.task
    try:
        outputs = inputs.feed(predictor)
    except TrialError as error:
        return spec.document.mistake(("task",), f"{task.name}: {error}")
    except Exception as error:  # noqa: BLE001  whatever the model's code raises
        given = ", ".join([*map(shapes, inputs.args), *(f"{name} {shapes(t)}" for name, t in inputs.kwargs.items())])
        why = told(error, spec.document.folder)
        return spec.document.mistake(("model",), f"does not run on a batch of the data, {given}: {why}")
    if reason := task.refuses(outputs, targets, data):
        return spec.document.mistake(("task",), reason)
    if every and task.targets_are == "the data's" and (reason := faulty_sample(task, data, outputs)):
        return spec.document.mistake(("data",), reason)
    return None


def _steps(spec: Spec, components: Components, network: nn.Module) -> tuple[Step, ...]:
    try:
        return steps(components.transforms, network)
    except TrialError as error:
        raise SpecError([spec.document.mistake(("transforms",), str(error))]) from error


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


def _untracked(spec: Spec) -> list[Mistake]:
    """Where the spec says where to track, but nothing can; if it does not say, the search goes on untracked."""
    if spec.tracking.uri is None or not spec.tracking.enabled or installed():
        return []
    reason = f"{MISSING}; or leave it out, to search without a record in MLflow"
    return [spec.document.mistake(("tracking", "uri"), reason)]


def _refusals(spec: Spec, components: Components, data: Data) -> list[Mistake]:
    mistakes = [
        spec.document.mistake(components.place(evaluator), reason)
        for evaluator in components.evaluators
        if (reason := evaluator.refuses(data))
    ]
    for index, exporter in enumerate(components.exporters):
        if reason := exporter.refuses():
            mistakes.append(spec.document.mistake(("exporters", index), f"{exporter.name} {reason}"))
    return mistakes


def _reasons(structure: Structure) -> list[str]:
    return [f"{uncut.layer}: {uncut.reason}" for uncut in structure.uncut[:5]] or [
        "it has no convolution or linear layer"
    ]
