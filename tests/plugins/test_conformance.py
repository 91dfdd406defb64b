"""The conformance kit, applied to every component that the installed first-party plugins bring."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from autoprune import save_program
from autoprune.host.plugins import PluginHost
from autoprune.plugin import (
    Data,
    DataSource,
    Evaluator,
    Executor,
    Exporter,
    ModelSource,
    Recovery,
    Sampler,
    Scorer,
    SourceContext,
    Split,
    Strategy,
    Task,
    Transform,
)
from autoprune.structure import write_pruned
from autoprune.testing import (
    Bench,
    DataSourceConformance,
    EvaluatorConformance,
    ExecutorConformance,
    ExporterConformance,
    ModelSourceConformance,
    RecoveryConformance,
    SamplerConformance,
    ScorerConformance,
    StrategyConformance,
    TaskConformance,
    TransformConformance,
    toy_data,
    toy_network,
)
from autoprune.toolkit.packages import optional
from autoprune_evaluators import _joules

from .tasks.cases import HEADS, fitting

OPTIONS = {
    ("task", "multi-head"): {"heads": HEADS},
    ("scorer", "bn-scale"): {"otherwise": {"use": "l1"}},
    ("scorer", "taylor"): {},
    ("strategy", "one-shot"): {"recover": {"use": "bn-recalibration", "samples": 64}},
    ("strategy", "iterative"): {"rounds": 2, "recover": {"use": "fine-tune", "epochs": 0.5, "batch_size": 16}},
    ("strategy", "gradual"): {"cuts": 3, "epochs": 0.5, "batch_size": 16},
    ("strategy", "pre-prune"): {"epochs": 0.5, "batch_size": 16},
    ("strategy", "sparse-training"): {"epochs": 0.5, "batch_size": 16, "penalty": "group-lasso"},
    ("recovery", "bn-recalibration"): {"samples": 64, "batch_size": 32},
    ("recovery", "fine-tune"): {"epochs": 0.5, "batch_size": 16},
    ("recovery", "distill"): {"epochs": 0.5, "batch_size": 16},
    ("evaluator", "latency"): {"batch_size": 4, "repeats": 4, "seconds": 0},
    ("evaluator", "throughput"): {"batch_size": 4, "repeats": 4, "seconds": 0},
    ("evaluator", "training-time"): {"batch_size": 4, "repeats": 4, "seconds": 0},
    ("evaluator", "energy"): {"batch_size": 4, "stretch": 0.001, "repeats": 2},
    ("evaluator", "inference-time-reduction"): {"batch_size": 4, "repeats": 4, "seconds": 0},
    ("evaluator", "efficiency-improvement"): {"batch_size": 4, "repeats": 4, "seconds": 0},
    ("evaluator", "robustness-improvement"): {"epsilon": 0.1, "steps": 3, "samples": 32},
    ("evaluator", "metric"): {
        "target": "torch.nn.functional:cross_entropy",
        "direction": "minimize",
        "resamples": 40,
    },
    ("evaluator", "top-k"): {"k": 2},
    ("evaluator", "gaussian-noise"): {"deviation": "16/255"},
    ("evaluator", "salt-and-pepper"): {"share": 0.1},
    ("evaluator", "corruption"): {"kinds": ["shot-noise", "fog"], "severities": [2, 4], "each": True, "samples": 32},
    ("evaluator", "explanation-agreement"): {"steps": 3, "samples": 32},
    ("evaluator", "model-extraction"): {"epochs": 2, "samples": 32, "batch_size": 16},
    ("evaluator", "model-inversion"): {"steps": 5},
    ("evaluator", "attribute-inference"): {"column": 1},
    ("evaluator", "worst-group"): {"by": 1},
    ("evaluator", "fgsm"): {"epsilon": "2/255", "samples": 32},
    ("evaluator", "pgd"): {"epsilon": 0.1, "steps": 3, "samples": 32},
    ("evaluator", "apgd"): {"epsilon": 0.1, "steps": 3, "samples": 32},
    ("evaluator", "square"): {"epsilon": 0.1, "queries": 10, "samples": 32},
    ("evaluator", "autoattack"): {"epsilon": 0.1, "attacks": ["apgd-ce"], "samples": 16},
    ("evaluator", "foreign-attack"): {"attack": "foolbox.attacks:LinfPGD", "epsilon": 0.1, "samples": 32},
    ("evaluator", "robust-loss"): {"epsilon": 0.1, "steps": 3, "samples": 32},
    ("evaluator", "embedding-attack"): {"epsilon": 0.1, "steps": 3, "samples": 32},
    ("evaluator", "token-attack"): {"candidates": 2, "samples": 32},
    ("evaluator", "min-distance"): {"epsilons": ["2/255"], "steps": 3, "halvings": 1, "samples": 32},
    ("evaluator", "masking"): {"epsilon": 0.1, "steps": 3, "queries": 10, "samples": 32},
    ("model", "factory"): {"target": "autoprune.testing:toy_network"},
    ("model", "digits-cnn"): {"width": 4, "epochs": 1},
    ("model", "huggingface"): {"path": "vit"},
    ("model", "timm"): {"model": "test_resnet", "args": {"num_classes": 4}},
    ("model", "torchvision"): {"model": "mnasnet0_5", "args": {"num_classes": 4}},
    ("model", "exported"): {"path": "toy.pt2"},
    ("model", "pruned"): {"path": "saved", "trust": True},
    ("data", "parquet"): {"path": "images"},
    ("data", "image-folder"): {"path": "folders"},
    ("data", "npz"): {"path": "arrays.npz"},
    ("data", "text"): {"path": "sentences", "length": 4},
    ("data", "text-blocks"): {"path": "sentences", "length": 10},
    ("data", "image-mask-folder"): {"path": "pairs"},
    ("data", "huggingface"): {"path": "images", "columns": {"pixel_values": "image"}},
    ("data", "factory"): {"target": "autoprune.testing:toy_data"},
}
"""The options that a component needs, or that make it quick."""

HOST = PluginHost()
OURS = {
    *("scorers", "strategies", "recoveries", "transforms", "evaluators", "sources", "samplers", "tasks"),
    *("executors", "exporters"),
}


def every(contract):
    """Every first-party component of a kind, as a fixture's parameters."""
    brought = [
        cls.model_validate({"use": name, **OPTIONS.get((contract.kind, name), {})}, context=HOST)
        for name, cls in HOST.components(contract).items()
        if HOST.provider(cls).name in OURS
    ]
    assert brought, f"no {contract.kind} is installed"
    return {"params": brought, "ids": [component.name for component in brought]}


def of_numbers(split):
    """The same inputs, whose targets are four numbers in the place of a class."""
    inputs, classes = split.fetch(torch.arange(len(split)))
    noise = torch.randn(len(split), 4, generator=torch.Generator().manual_seed(0))
    return Split.of_tensors(inputs, torch.eye(4)[classes] + 0.1 * noise)


def of_a_table():
    """A small net of four numbers that tell three classes, the second one by its sign alone."""
    generator = torch.Generator().manual_seed(0)

    def split(length):
        targets = torch.arange(length) % 3
        rows = torch.randn(length, 4, generator=generator) + torch.eye(4)[targets]
        rows[:, 1] = rows[:, 1].sign()
        return Split.of_tensors(rows, targets)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return Bench(network, Data(split(60), split(40), split(50), classes=3))


class ToyText(nn.Module):
    """A classifier of five tokens each."""

    def __init__(self):
        super().__init__()
        self.words, self.hidden, self.output = nn.Embedding(12, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, tokens):
        return self.output(self.hidden(self.words(tokens).mean(1)).relu())


def of_texts():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randint(12, (64, 5), generator=generator) for _ in range(3)]
    splits = [Split.of_tensors(tokens, tokens.sum(1) % 4) for tokens in parts]
    return Bench(ToyText(), Data(*splits, classes=4))


def test_the_table_names_components_that_exist():
    assert {plugin.name for plugin in HOST.plugins if plugin.error is None} >= OURS
    known = {(cls.kind, cls.name) for plugin in HOST.plugins for cls in plugin.components}
    assert set(OPTIONS) <= known


class TestScorers(ScorerConformance):
    @pytest.fixture(**every(Scorer))
    def component(self, request):
        return request.param


class TestStrategies(StrategyConformance):
    @pytest.fixture(**every(Strategy))
    def component(self, request):
        return request.param


class TestRecoveries(RecoveryConformance):
    @pytest.fixture(**every(Recovery))
    def component(self, request):
        return request.param


class TestTransforms(TransformConformance):
    @pytest.fixture(**every(Transform))
    def component(self, request):
        return request.param


class TestTasks(TaskConformance):
    @pytest.fixture(**every(Task))
    def component(self, request):
        return request.param

    @pytest.fixture
    def outputs(self, component):
        return fitting(component.name)[0]

    @pytest.fixture
    def targets(self, component):
        return fitting(component.name)[1]


@pytest.mark.slow
class TestEvaluators(EvaluatorConformance):
    @pytest.fixture(**every(Evaluator))
    def component(self, request, monkeypatch):
        if request.param.name == "energy":  # most machines have no counter that may be read; here is one of a watt
            monkeypatch.setattr(_joules, "packages", lambda: [Path()])
            monkeypatch.setattr(_joules, "counter", lambda _: time.perf_counter)
        return request.param

    @pytest.fixture
    def bench(self, component):
        if component.name in ("embedding-attack", "token-attack"):
            return of_texts()
        if component.name in ("attribute-inference", "worst-group"):
            return of_a_table()
        if component.name not in ("r2", "mae", "rmse"):
            return Bench()
        data = toy_data()
        splits = {name: of_numbers(data.split(name)) for name in ("train", "validation", "test")}
        return Bench(data=replace(data, **splits), task=HOST(Task, "regression")())


@pytest.mark.slow
class TestSamplers(SamplerConformance):
    @pytest.fixture(**every(Sampler))
    def component(self, request):
        return request.param


@pytest.mark.slow
class TestExecutors(ExecutorConformance):
    @pytest.fixture(**every(Executor))
    def component(self, request):
        return request.param


class TestOneWorker(TestExecutors):
    workers = 1


@pytest.mark.slow
class TestExporters(ExporterConformance):
    @pytest.fixture(**every(Exporter))
    def component(self, request):
        return request.param


@pytest.mark.slow
class TestModelSources(ModelSourceConformance):
    @pytest.fixture(**every(ModelSource))
    def component(self, request):
        return request.param

    @pytest.fixture
    def ctx(self, tmp_path, component):
        if component.name in ("exported", "pruned") and not (tmp_path / "toy.pt2").exists():
            inputs, _ = toy_data().validation.fetch(torch.arange(2))
            save_program(toy_network(), inputs, tmp_path / "toy.pt2")
            bench = Bench()
            kept = {bench.structure.groups[0].name: torch.tensor([0, 2])}
            ctx = SourceContext(folder=tmp_path, cache=tmp_path / "cache", seed=0)
            write_pruned(
                tmp_path / "saved",
                bench.structure.cut(bench.network, kept),
                plan=bench.structure.plan(bench.network, kept),
                kept=kept,
                cut_units={},
                source=HOST(ModelSource, "factory")(target="autoprune.testing:toy_network"),
                ctx=ctx,
            )
        if component.name == "huggingface":
            save_vit(tmp_path / "vit")
        return SourceContext(tmp_path, tmp_path / "cache", seed=0, objects={"model": toy_network()})

    @pytest.fixture
    def task(self, component):
        return HOST(Task, "classification")() if component.name == "huggingface" else None

    @pytest.fixture
    def data(self, component, ctx):
        if component.name == "digits-cnn":
            return HOST(DataSource, "digits")().load(ctx)
        return toy_data()


@pytest.mark.slow
class TestDataSources(DataSourceConformance):
    @pytest.fixture(**every(DataSource))
    def component(self, request):
        return request.param

    @pytest.fixture
    def ctx(self, tmp_path):
        """A spec's folder with files of every kind in it."""
        pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
        labels = np.arange(40) % 3
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = tmp_path / "folders" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
            for place, picture in (("images", image), ("masks", image[:, :, 0] % 3)):
                (tmp_path / "pairs" / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(tmp_path / "pairs" / place / f"{number}.png")
        (tmp_path / "images").mkdir()
        pq.write_table(
            pa.table({"image": [encoded(image) for image in pixels], "label": labels}),
            tmp_path / "images" / "train.parquet",
        )
        (tmp_path / "sentences").mkdir()
        sentences = [f"{' '.join(map(str, divmod(row, 7)))} is it" for row in range(40)]
        pq.write_table(pa.table({"text": sentences, "label": labels}), tmp_path / "sentences" / "train.parquet")
        np.savez(tmp_path / "arrays.npz", x=pixels, y=labels)
        live = {"data": {"train": (torch.from_numpy(pixels), torch.from_numpy(labels))}}
        return SourceContext(tmp_path, tmp_path / "cache", seed=0, objects=live)


def save_vit(folder):
    """A model of transformers that takes the kit's images."""
    transformers = optional("transformers")
    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(**sizes, intermediate_size=12, num_labels=4)
    transformers.ViTForImageClassification(config).save_pretrained(folder)


def encoded(pixels):
    Image.fromarray(pixels).save(content := io.BytesIO(), "PNG")
    return content.getvalue()
