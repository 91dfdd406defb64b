"""The tasks: a dense model, its data, what is measured of a pruned one, and how many candidates a method may try.

Every method gets the same `Setting`: model and data already in memory, the spec's evaluators and its recovery.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autoprune import hookimpl, load_spec, spec_from_mapping
from autoprune.host.binding import Components, bind
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Component, Data, DataSource, Inputs, ModelSource, SourceContext, Split, SplitName
from autoprune.spec import Spec
from autoprune.spec.model import Direction
from autoprune.study.predictor import Predictor
from autoprune.study.resolution import cache_folder
from autoprune.testing import toy_data, toy_network

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "search_spaces" / "examples"
TEST_SAMPLES = 2000
"""Of the test split, the same ones for every method."""
_GLANCE = 16
BUDGETS = {"ours": 60, "random": 100, "hand": 100, "ladder": 20}
"""Candidates per run, by kind of method."""
QUICK = {"ours": 6, "random": 6, "hand": 4, "ladder": 3}


@dataclass(frozen=True)
class Task:
    """What every method is measured on."""

    name: str
    title: str
    spec: Path
    """A spec of the examples; `overrides` replace its scorer, recovery, evaluators and objectives."""
    overrides: tuple[str, ...]
    objectives: Mapping[str, Direction]
    reference: Mapping[str, float]
    """The hypervolume's reference point: a value per objective."""
    budgets: Mapping[str, int]

    def losses(self, metrics: Mapping[str, float]) -> list[float]:
        """The objectives, smaller is better."""
        return [-metrics[m] if better == "maximize" else metrics[m] for m, better in self.objectives.items()]


def _task(
    name: str,
    title: str,
    spec: str,
    *,
    chance: float,
    samples: int | None = None,
    attack: str = "",
    ours: int = BUDGETS["ours"],
) -> Task:
    """Accuracy × MACs, channels ranked by L1, ratios from 0 to 0.9; robust accuracy if there is an attack.

    Args:
        name: Of the task.
        title: For the page.
        spec: A file of the examples.
        chance: The accuracy of guessing, which is the reference.
        samples: Validation samples that accuracy is measured on; all if None.
        attack: The attack evaluator, as a spec says it.
        ours: Candidates that our search may try.
    """
    accuracy = "{use: accuracy, batch_size: 128" + (f", samples: {samples}}}" if samples else "}")
    evaluators = ["{use: macs}", accuracy]
    objectives: dict[str, Direction] = {"accuracy": "maximize", "macs_ratio": "minimize"}
    reference = {"accuracy": chance, "macs_ratio": 1.0}
    if attack:
        evaluators.append(attack)
        objectives["robust_accuracy"] = "maximize"
        reference["robust_accuracy"] = 0.0
    overrides = (
        "scorer={use: l1}",
        "strategy={use: one-shot, recover: {use: repair}}",
        "search_space={ratio: {low: 0.0, high: 0.9}}",
        f"evaluators=[{', '.join(evaluators)}]",
        f"objectives={{{', '.join(f'{metric}: {better}' for metric, better in objectives.items())}}}",
        "constraints={}",
    )
    folder = Path(__file__).parent if spec == "digits_deep" else EXAMPLES
    return Task(name, title, folder / f"{spec}.yaml", overrides, objectives, reference, BUDGETS | {"ours": ours})


RECALIBRATE = {"use": "bn-recalibration", "samples": 512}
"""In place of the tasks' repair, for methods that say so."""
_PGD = "{use: pgd, epsilon: 0.5/255, steps: 5, samples: 128}"
TASKS = {
    task.name: task
    for task in (
        _task("resnet20", "ResNet-20 on CIFAR-10", "cifar10_resnet20", chance=0.1, samples=1000, ours=80),
        _task("resnet20-robust", "ResNet-20 on CIFAR-10, under PGD", "cifar10_resnet20", chance=0.1, samples=1000,
              attack=_PGD, ours=80),
        _task("mobilenet", "MobileNet on CIFAR-10", "cifar10_mobilenet", chance=0.1, samples=1000),
        _task("sst2-transformer", "Transformer on SST-2", "sst2_transformer", chance=0.5),
        _task("sst2-lstm", "LSTM on SST-2", "sst2_lstm", chance=0.5, ours=300),
        _task("digits", "Small CNN on digits", "digits", chance=0.1),
        _task("digits-deep", "Deep CNN on digits", "digits_deep", chance=0.1, ours=80),
    )
}  # fmt: skip


def budget_of(task: Task, kind: str, budgets: Mapping[str, int] | None = None) -> int:
    """Candidates that a method of that kind may try; a peer of another kind gets as many as a ladder."""
    chosen = task.budgets if budgets is None else budgets
    return chosen.get(kind, chosen["ladder"])


@dataclass(frozen=True)
class Setting:
    """A task with everything loaded and nothing traced."""

    task: Task
    spec: Spec
    """Complete but for the search's options; its sources hand over the model and the data in memory."""
    host: PluginHost
    components: Components
    network: nn.Module
    """The dense network, in ``eval()``; never changed."""
    data: Data
    """With at most `TEST_SAMPLES` test samples."""
    example: Inputs
    """A few inputs, as the bare network takes them: normalised."""


def load_setting(task: Task, *, seed: int, cache: Path, glance: int = _GLANCE) -> Setting:
    """Load a task's model and data, all images decoded.

    Args:
        task: What to load.
        seed: The search's.
        cache: Folder for the decoded data.
        glance: Test samples that a search itself measures its front on.
    """
    spec = load_spec(task.spec, overrides=task.overrides)
    components = bind(spec, PluginHost())
    context = SourceContext(folder=spec.document.folder, cache=cache_folder(), seed=0)
    data = _decoded(components.data, context, cache)
    network = components.model.load(data, context).cpu().eval()
    return _setting(task, spec, network, data, seed, glance)


def toy_setting(task: Task, *, seed: int = 0) -> Setting:
    """A net of a few layers on made-up images, with the task's metrics: what a method warms up with."""
    evaluators = [{"use": "macs"}, {"use": "accuracy"}]
    if "robust_accuracy" in task.objectives:
        evaluators.append({"use": "pgd", "epsilon": 0.01, "steps": 1, "samples": 8})
    spec = spec_from_mapping(
        {
            "name": "toy",
            "model": {"use": "digits-cnn"},
            "data": {"use": "digits"},
            "scorer": {"use": "l1"},
            "strategy": {"use": "one-shot", "recover": {"use": "bn-recalibration", "samples": 16, "batch_size": 8}},
            "evaluators": evaluators,
            "objectives": dict(task.objectives),
        }
    )
    return _setting(task, spec, toy_network().eval(), toy_data(), seed)


def _setting(task: Task, spec: Spec, network: nn.Module, data: Data, seed: int, glance: int = _GLANCE) -> Setting:
    """Replace the spec's sources by what they gave."""
    data = replace(data, test=replace(data.test, length=min(TEST_SAMPLES, len(data.test))))
    host = PluginHost()
    # The harness itself looks at the test split, for all methods alike: the search's own last look may be a glance.
    shown = replace(data, test=replace(data.test, length=min(glance, len(data.test))))
    host.register(_Held(network, shown), name="held")
    search = {"seed": seed, "workers": 1}
    held = {"model": {"use": "held"}, "data": {"use": "held"}, "tracking": {"enabled": False}, "device": "cpu"}
    plain = {key: value for key, value in spec.model_dump(mode="json").items() if key != "search"}
    made = spec_from_mapping(plain | held | {"search": search}, host=host, folder=Path(tempfile.gettempdir()))
    inputs, _ = data.validation.fetch(torch.arange(4))
    example = Predictor(network, data.normalization).normalized(inputs)
    return Setting(task, made, host, bind(made, host), network, data, example)


class _Held:
    """A plugin whose two sources, both called `held`, give what is in memory."""

    def __init__(self, network: nn.Module, data: Data) -> None:
        class HeldModel(ModelSource):
            name = "held"

            def build(self, ctx: SourceContext) -> nn.Module:
                return copy.deepcopy(network)

            def load(self, data: Data, ctx: SourceContext) -> nn.Module:
                return network

        class HeldData(DataSource):
            name = "held"

            def load(self, ctx: SourceContext) -> Data:
                return data

        self._components = HeldModel, HeldData

    @hookimpl
    def autoprune_components(self) -> Iterable[type[Component]]:
        return self._components


def _decoded(source: DataSource, context: SourceContext, cache: Path) -> Data:
    """The data with every sample decoded; decoding fifty thousand images takes longer than some runs.

    Images are held as ``uint8``, as an image source does itself.
    """
    reference = json.dumps([source.reference(), str(context.folder)], sort_keys=True)
    file = cache / f"{source.name}-{hashlib.sha256(reference.encode()).hexdigest()[:12]}.safetensors"
    data = source.load(context)
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    if not file.exists():
        stored: dict[str, Tensor] = {}
        for name in names:
            split = data.split(name)
            inputs, targets = split.fetch(torch.arange(len(split)))
            for place, tensor in enumerate((*inputs.tensors, targets)):
                stored[f"{name}.{place}"] = _compact(tensor)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        save_file(stored, part)
        part.replace(file)
    stored = load_file(file)
    splits = {}
    for name in names:
        *inputs, targets = (stored[key] for key in sorted(stored) if key.startswith(f"{name}."))
        splits[name] = Split.of_tensors(tuple(inputs), targets)
    return replace(data, **cast("dict[str, Split]", splits))


def _compact(tensor: Tensor) -> Tensor:
    """Bytes, where the values are pixels of 8 bits in [0, 1]."""
    if not tensor.is_floating_point():
        return tensor
    pixels = (tensor * 255).round().to(torch.uint8)
    return pixels if torch.equal(pixels.float() / 255, tensor) else tensor
