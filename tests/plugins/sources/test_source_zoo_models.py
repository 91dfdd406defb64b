from __future__ import annotations

import socket
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from autoprune import DataError
from autoprune.toolkit.packages import optional
from autoprune_sources.zoo_models import Timm, Torchvision

timm, torchvision = optional("timm"), optional("torchvision")

SOURCES = [
    (Timm, "timm", "mobilenetv3_small_050", "classifier"),
    (Torchvision, "torchvision", "mnasnet0_5", "classifier.1"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whoever reaches for the network fails."""

    def refuse(*_):
        raise AssertionError("a model source reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("source", "package", "model", "head"), SOURCES)
def test_makes_a_model_by_its_name(ctx, source, package, model, head):
    first, again = (source(model=model, args={"num_classes": 7}).build(ctx) for _ in range(2))
    other = source(model=model, args={"num_classes": 7}).build(replace(ctx, seed=1))
    assert type(first).__module__.partition(".")[0] == package
    weights = [network.get_submodule(head).weight for network in (first, again, other)]
    assert weights[0].shape[0] == 7
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.slow
@pytest.mark.parametrize(("source", "package", "model", "head"), SOURCES)
def test_takes_its_weights_from_a_file(ctx, source, package, model, head):
    trained = source(model=model).build(replace(ctx, seed=5)).state_dict()
    save_file({name: tensor.clone() for name, tensor in trained.items()}, ctx.folder / "w.safetensors")
    network = source(model=model, weights="w.safetensors").load(None, ctx)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.state_dict().items())
    del trained[f"{head}.bias"]
    torch.save(trained, ctx.folder / "w.pt")
    with pytest.raises(DataError, match=rf"w\.pt does not fit the model; missing: {head}\.bias"):
        source(model=model, weights="w.pt").load(None, ctx)
    source(model=model, weights="w.pt", strict=False).load(None, ctx)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Timm(model="resnet81"), r"timm has no model 'resnet81'; did you mean 'resnet\d+'\?"),
        (Timm(model="hf-hub:timm/resnet18.a1_in1k"), r"timm has no model 'hf-hub:timm/resnet18.a1_in1k'"),
        (Torchvision(model="resnet81"), r"torchvision has no model 'resnet81'; did you mean 'resnet\d+'\?"),
        (Timm(model="resnet18", args={"pretrained": True}), r"args: pretrained would download; fetch the weights"),
        (Torchvision(model="resnet18", args={"weights": "DEFAULT"}), r"args: weights would download"),
        (
            Timm(model="resnet18", args={"depht": 3}),
            r"model 'resnet18' cannot be made of these args: TypeError: .*depht",
        ),
        (Torchvision(model="resnet18", args={"depht": 3}), r"model 'resnet18' cannot be made of these args: .*depht"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(ctx, source, told):
    with pytest.raises(DataError, match=told) as caught:
        source.load(None, ctx)
    assert "\n" not in str(caught.value)


def test_a_backbone_is_not_fetched_either(ctx):
    network = Torchvision(model="lraspp_mobilenet_v3_large", args={"num_classes": 3}).build(ctx)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32))["out"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("source", "package"), [(Timm, "timm"), (Torchvision, "torchvision")])
def test_a_missing_package_is_told_with_the_command(ctx, monkeypatch, source, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=rf"needs the package {package}: pip install 'autoprune\[{package}\]'"):
        source(model="resnet18").build(ctx)


def test_weights_of_other_kinds_are_refused_in_the_spec():
    with pytest.raises(ValidationError, match=r"weights end in \.safetensors, \.pt, \.pth"):
        Timm(model="resnet18", weights="resnet18.bin")
