"""Text models on real sentences: heads, feed-forward neurons and hidden units are searched, and the models open."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from autoprune import search
from autoprune.host.binding import load_spec
from autoprune.plugin import SourceContext
from autoprune_sources.text import Text

from .saved_models import opened, recorded

ROOT = Path(__file__).parents[2]
DATA = (ROOT / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve() / "data/sst2"
TOKENS = {"vocabulary": 1000, "length": 16}

SPEC = f"""\
name: text
model: {{use: factory, target: "sst2_models:NAME_classifier", args: ARGS, weights: weights.safetensors}}
data: {{use: text, path: "{DATA}", vocabulary: 1000, length: 16}}
scorer: {{use: taylor, batches: 4}}
strategy: {{use: one-shot, recover: {{use: fine-tune, optimizer: adamw, lr: 0.002, epochs: 0.1, batch_size: 64}}}}
evaluators: [{{use: macs}}, {{use: accuracy}}, {{use: latency, repeats: 2, seconds: 0, batch_size: 8}}]
objectives: {{accuracy: maximize, macs: minimize}}
search: {{trials: 5, ladder: 3, seed: 0, final: {{samples: all}}}}
tracking: {{enabled: false}}
output: study
device: cpu
"""


def trained(folder: Path, name: str, args: dict[str, int]) -> None:
    """Put a network of the example and its weights, after a few steps of training, into the folder."""
    shutil.copy(ROOT / "search_spaces/examples/sst2_models.py", folder)
    spec = importlib.util.spec_from_file_location("sst2_models_of_the_example", folder / "sst2_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = Text(path=DATA, **TOKENS).load(SourceContext(folder=folder, cache=folder, seed=0))
    torch.manual_seed(0)
    network = getattr(module, f"{name}_classifier")(**args)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for inputs, targets in data.train.batches(64, samples=64 * 40):
        loss = cross_entropy(inputs.feed(network), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
    save_file(network.state_dict(), folder / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "args", "kinds"),
    [
        (
            "lstm",
            {"vocabulary": 1000, "width": 16, "units": 12, "hidden": 8},
            {"embedding": "neuron", "lstm": "hidden unit", "classifier.hidden": "neuron"},
        ),
        pytest.param(
            "transformer",
            {**TOKENS, "width": 16, "heads": 4, "neurons": 24, "hidden": 8},
            {
                "embedding": "neuron",
                "layers.0.attention.query": "head",
                "layers.0.expand": "neuron",
                "layers.1.attention.query": "head",
                "layers.1.expand": "neuron",
                "classifier.hidden": "neuron",
            },
            marks=pytest.mark.long,
        ),
    ],
)
def test_text_models_are_searched_and_their_models_open(
    name: str, args: dict[str, int], kinds: dict[str, str], tmp_path: Path
) -> None:
    trained(tmp_path, name, args)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("NAME", name).replace("ARGS", str(args)), encoding="utf-8")
    result = search(load_spec(tmp_path / "spec.yaml"))
    trials = result.outcome.trials
    assert [trial.state for trial in trials] == ["complete"] * 5, [trial.reason for trial in trials]
    assert {group.name: group.granularity for group in result.study.groups} == kinds
    cut = {group for trial in trials for group, ratio in trial.achieved.items() if ratio > 0}
    assert cut == kinds.keys()
    accuracy = recorded(result.study.folder)
    number = max(accuracy)
    found = opened(result.study.folder, number)
    assert number > 0
    assert found["macs"] < 1
    assert found["accuracy"] == accuracy[number]
    assert found["deviation"] < 1e-4
