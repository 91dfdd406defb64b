"""What exporters write, opened by what it is for: PyTorch without the model's code, and ONNX Runtime."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import autoprune
from autoprune.errors import AutopruneError
from autoprune.plugin import ExportContext, Inputs, Normalization
from autoprune_exporters import autoprune_components
from autoprune_exporters.onnx import Onnx
from autoprune_exporters.program import Program
from autoprune_tasks.classification import Classification


class Net(nn.Module):
    """Images, and features by keyword, to classes and what lies before them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.features, self.head = nn.Linear(2, 4), nn.Linear(4, 5)

    def forward(self, image, *, features):
        hidden = self.norm(self.conv(image)).relu().mean((2, 3)) + self.features(features)
        return {"logits": self.head(hidden), "hidden": hidden}


class Choosy(nn.Module):
    """What no graph can be made of."""

    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x.flatten().unique()


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


def samples(count):
    return Inputs((torch.rand(count, 3, 6, 6),), {"features": torch.randn(count, 2)})


def context(normalization=None):
    return ExportContext(normalization=normalization, task=Classification())


def normalized(inputs):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return inputs.with_first((inputs.first - mean) / std)


def test_both_are_there():
    assert {component.name for component in autoprune_components()} == {"program", "onnx"}


def test_a_program_needs_no_code_and_takes_any_batch(net, tmp_path):
    artifact = Program().export(net, samples(4), tmp_path, context(Normalization(MEAN, STD)))
    assert artifact.path == tmp_path / "model.pt2"
    assert "normalised inputs" in artifact.description
    opened = autoprune.load_program(artifact.path)
    for count in (1, 7):
        inputs = samples(count)
        for made, expected in zip(inputs.feed(opened).values(), inputs.feed(net).values(), strict=True):
            torch.testing.assert_close(made, expected)


@pytest.mark.slow
def test_onnx_takes_inputs_in_input_units_and_any_batch(net, tmp_path):
    artifact = Onnx().export(net, samples(4), tmp_path, context(Normalization(MEAN, STD)))
    assert "input units" in artifact.description
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"], "weights are in the file"
    session = onnxruntime.InferenceSession(artifact.path)
    assert [given.name for given in session.get_inputs()] == ["image", "features"]
    for count in (1, 7):
        inputs = samples(count)
        made = session.run(None, {"image": inputs.first.numpy(), "features": inputs.kwargs["features"].numpy()})
        with torch.no_grad():
            expected = normalized(inputs).feed(net)
        for one, other in zip(made, expected.values(), strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    assert not net._forward_pre_hooks, "the model is as it was"


@pytest.mark.slow
def test_onnx_leaves_normalisation_out_where_it_is_told_to(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    artifact = Onnx(normalize=False, opset=18).export(
        net, Inputs.of(torch.rand(2, 3, 2, 2)), tmp_path, context(Normalization(MEAN, STD))
    )
    assert "normalised inputs" in artifact.description
    session, x = onnxruntime.InferenceSession(artifact.path), torch.rand(3, 3, 2, 2)
    (made,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(made, net(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("exporter", "told"), [(Program(), "torch.export cannot trace"), (Onnx(), "torch.onnx cannot")]
)
def test_what_cannot_be_exported_is_told_in_a_line(tmp_path, exporter, told, capfd):
    with pytest.raises(AutopruneError, match=told) as caught:
        exporter.export(Choosy(), Inputs.of(torch.rand(2, 3)), tmp_path, context())
    assert "Choosy: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_onnx_says_what_is_missing(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    assert Onnx().refuses() == "needs onnxscript: pip install 'autoprune[onnx]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert Onnx().refuses() is None
