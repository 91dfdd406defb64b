"""A model whose code holds its sizes is searched as its exported graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune import load_pruned, search
from autoprune.host.binding import load_spec

from .conftest import SPEC, Workspace
from .saved_models import opened, recorded

NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.linear = nn.Linear(256, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.linear(self.bn2(self.conv2(x)).relu().view(-1, 256))
"""


@pytest.mark.slow
def test_graphs_are_searched_fine_tuned_saved_and_opened(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "fixed_view.py").write_text(NET, encoding="utf-8")
    settings = (
        "model={use: factory, target: 'fixed_view:Net'}",
        "search_space.use=[channels, weights]",
        "strategy={use: one-shot, recover: {use: fine-tune, epochs: 0.5}}",
        "evaluators=[{use: macs}, {use: accuracy}, {use: latency, batch_size: 4, repeats: 2, seconds: 0}]",
        "objectives={accuracy: maximize, macs: minimize}",
        "constraints={}",
        "search.trials=6",
        "output=study",
        "tracking.enabled=false",
    )
    result = search(load_spec(tmp_path / "spec.yaml", overrides=settings))
    assert [(trial.state, trial.reason) for trial in result.outcome.trials] == [("complete", None)] * 6
    assert {"conv1", "conv2"} <= {name for trial in result.outcome.trials for name, r in trial.achieved.items() if r}
    accuracy = recorded(result.study.folder)
    number = next(p.trial.number for p in result.front.points if p.trial.origin != "dense")
    (tmp_path / "fixed_view.py").unlink()
    model = load_pruned(result.study.folder / "models" / str(number))
    assert model.get_parameter("conv1.weight").shape[0] < 16, "no code of the model is needed"
    (tmp_path / "fixed_view.py").write_text(NET, encoding="utf-8")
    assert opened(result.study.folder, number)["accuracy"] == accuracy[number]


@pytest.mark.slow
def test_explain_says_which_inputs_a_graph_takes(workspace: Workspace) -> None:
    (workspace.folder / "fixed_view.py").write_text(NET, encoding="utf-8")
    asked = ("explain", "spec.yaml", "--set", "model={use: factory, target: 'fixed_view:Net'}", "--no-timing")
    said = workspace.call(*asked)
    assert "it takes inputs of shape (any, 1, 8, 8)" in " ".join(said.out.split())
    document = workspace.call(*asked, "--json").document
    assert (document["form"], document["sizes"]) == ("graph", [[None, 1, 8, 8]])
    assert workspace.call("explain", "spec.yaml", "--no-timing", "--json").document["sizes"] is None
