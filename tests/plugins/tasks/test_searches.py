"""A search for each task, from a spec to models of the front whose losses plain torch computes again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

import autoprune

from .cases import noise
from .nets import WORDS, net

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_workers")]
TRAINING = {"epochs": 3, "batch_size": 64, "optimizer": "adamw", "lr": 0.005}
Arrays = dict[str, Tensor]
Loss = Callable[[Any, Any], Tensor]


def vectors(samples: int, seed: int) -> Arrays:
    x = noise(samples, 12, seed=seed)
    y = (x @ noise(12, 5, seed=90) > 0).long()
    return {"x": x, "y": y.masked_fill(noise(samples, 5, seed=seed + 1) > 1, -100)}


def images(samples: int, seed: int) -> Arrays:
    x = noise(samples, 3, 8, 8, seed=seed).sigmoid()
    y = functional.avg_pool2d(x, 3, 1, 1).argmax(1)
    return {"x": x, "y": y.masked_fill(noise(samples, 8, 8, seed=seed + 1) > 1, 255)}


def sentences(samples: int, seed: int) -> Tensor:
    """Each word, with some noise, is another's successor."""
    generator = torch.Generator().manual_seed(seed)
    words = [torch.randint(WORDS, (samples,), generator=generator)]
    for _ in range(9):
        step = torch.where(torch.rand(samples, generator=generator) < 0.9, 5, 1)
        words.append((words[-1] + step) % WORDS)
    return torch.stack(words, 1)


def prompted(samples: int, seed: int) -> Arrays:
    x = sentences(samples, seed)
    return {"x": x, "y": x.index_fill(1, torch.arange(2), -100)}


def masked(samples: int, seed: int) -> Arrays:
    x = sentences(samples, seed)
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.2
    return {"x": x.masked_fill(hidden, WORDS), "y": x.masked_fill(~hidden, -100)}


def answered(samples: int, seed: int) -> Arrays:
    x = sentences(samples, seed)
    y = (x * 7 + 3) % WORDS
    padded = y.masked_fill(torch.arange(10) >= 8, -100)
    return {"x": x, "said": torch.cat([torch.zeros(samples, 1, dtype=torch.int64), y[:, :-1]], 1), "y": padded}


def measured(samples: int, seed: int) -> Arrays:
    x = noise(samples, 12, seed=seed)
    known = x @ noise(12, 4, seed=91)
    return {"x": x, "kind": known[:, :3].argmax(1), "size": known[:, 3] / 3}


def pairs(samples: int, seed: int) -> Arrays:
    return {"image": noise(samples, 12, seed=seed), "text": noise(samples, 9, seed=seed + 1)}


def of_words(outputs: Any, targets: Tensor) -> Tensor:
    logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def of_labels(outputs: Any, targets: Tensor) -> Tensor:
    known = targets != -100
    each = functional.binary_cross_entropy_with_logits(outputs, targets.float(), reduction="none")
    samples = (each * known).sum(1) / known.sum(1).clamp_min(1)
    return (samples * known.sum(1)).sum() / known.sum()


CASES: dict[str, tuple[Callable[[int, int], Arrays], dict[str, Any], dict[str, Any], Loss]] = {
    "multilabel": (vectors, {}, {}, of_labels),
    "segmentation": (
        images,
        {},
        {"ignore_index": 255},
        lambda outputs, targets: functional.cross_entropy(outputs, targets, ignore_index=255),
    ),
    "causal-lm": (
        prompted,
        {},
        {},
        lambda outputs, targets: of_words(outputs["logits"][:, :-1], targets[:, 1:]),
    ),
    "masked-lm": (masked, {}, {}, of_words),
    "seq2seq-lm": (answered, {"inputs": {"input_ids": "x", "decoder_input_ids": "said"}}, {}, of_words),
    "multi-head": (
        measured,
        {"targets": ["kind", "size"]},
        {"heads": {"kind": {"use": "classification"}, "size": {"use": "regression"}}, "weights": {"size": 2}},
        lambda outputs, targets: (
            functional.cross_entropy(outputs["kind"], targets["kind"])
            + 2 * functional.mse_loss(outputs["size"][:, 0], targets["size"])
        ),
    ),
    "embedding": (
        pairs,
        {"inputs": {"image": "image", "text": "text"}, "targets": None},
        {"towers": ["image_embeds", "text_embeds"]},
        lambda outputs, dense: torch.stack(
            [
                1 - functional.cosine_similarity(outputs[tower], dense[tower]).mean()
                for tower in ("image_embeds", "text_embeds")
            ]
        ).mean(),
    ),
}
"""Of each task: its arrays, how the data source is told of them, the task's options, and the mean loss by hand."""


def split(arrays: Arrays, options: Mapping[str, Any]) -> tuple[tuple[Tensor, ...], dict[str, Tensor], Any]:
    """Positional and keyword inputs, and targets, as a model's own code would take them."""
    inputs, targets = options.get("inputs", "x"), options.get("targets", "y")
    given = ((arrays["x"],), {}) if inputs == "x" else ((), {name: arrays[at] for name, at in inputs.items()})
    if targets is None:
        return (*given, None)
    return (*given, arrays["y"] if targets == "y" else {name: arrays[name] for name in targets})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where specs and the factory are."""
    made = tmp_path_factory.mktemp("searches")
    shutil.copy(Path(__file__).with_name("nets.py"), made / "task_nets.py")
    return made


@pytest.mark.parametrize("task", CASES)
def test_a_search_ends_with_a_front_whose_losses_are_right(task: str, folder: Path) -> None:
    make, source, options, loss_of = CASES[task]
    sizes = {"train": 512, "validation": 256, "test": 256}
    arrays = {name: make(samples, 10 * seed) for seed, (name, samples) in enumerate(sizes.items(), start=1)}
    named = {f"{key}_{name}": each.numpy() for name, found in arrays.items() for key, each in found.items()}
    np.savez(folder / f"{task}.npz", **named)  # type: ignore[arg-type]
    dense = net(task)
    if task != "embedding":
        args, kwargs, targets = split(arrays["train"], source)
        optimizer = torch.optim.Adam(dense.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            loss_of(dense(*args, **kwargs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    save_file(dense.eval().state_dict(), folder / f"{task}.safetensors")
    spec = {
        "name": task,
        "model": {
            "use": "factory",
            "target": "task_nets:net",
            "args": {"task": task},
            "weights": f"{task}.safetensors",
        },
        "data": {"use": "npz", "path": f"{task}.npz", **source},
        "task": {"use": task, **options},
        "strategy": {"use": "one-shot", "recover": {"use": "fine-tune", **TRAINING}},
        "evaluators": [{"use": "loss"}, {"use": "params"}],
        "objectives": {"loss": "minimize", "params": "minimize"},
        "search": {"trials": 6, "seed": 0, "workers": 1},
        "tracking": {"enabled": False},
        "device": "cpu",
        "output": f"study-{task}",
    }
    result = autoprune.search(autoprune.spec_from_mapping(spec, folder=folder))
    assert set(result.trials["state"]) <= {"complete", "rejected"}
    points = sorted(result.front.points, key=lambda point: point.trial.metrics["params"].value)
    assert len(points) > 1
    args, kwargs, targets = split(arrays["test"], source)
    with torch.no_grad():
        of_dense = dense(*args, **kwargs)
        targets = of_dense if targets is None else targets
        found = []
        for point in points:
            pruned = autoprune.load_pruned(point.trial.model, dense=net(task)).eval()
            loss = float(loss_of(pruned(*args, **kwargs), targets))
            assert point.test["loss"].value == pytest.approx(loss, rel=1e-4, abs=1e-6)
            found.append((sum(p.numel() for p in pruned.parameters()), loss))
        params = sum(p.numel() for p in dense.parameters())
        assert [count for count, _ in found] == [point.trial.metrics["params"].value for point in points]
        assert all(count <= params for count, _ in found)
        assert found[0][0] < 0.7 * params
        # The largest of the front is hardly worse than the dense model, and much better than an untrained one.
        untrained = float(loss_of(net(task)(*args, **kwargs), targets)) if task != "embedding" else 1.0
        assert found[-1][1] < float(loss_of(of_dense, targets)) + 0.25 * untrained
