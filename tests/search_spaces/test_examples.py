"""The specs that come with the project."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
from pathlib import Path

import jsonschema
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from autoprune import discover, load_spec
from autoprune.host.binding import bind
from autoprune.host.plugins import ENTRY_POINT_GROUP, PluginHost
from autoprune.host.schema import json_schema
from autoprune.plugin import SourceContext
from autoprune.testing import Bench

ROOT = Path(__file__).parents[2]
SPACES = ROOT / "search_spaces"
EXAMPLES = SPACES / "examples"
SPECS = sorted(SPACES.rglob("*.yaml"))
SCHEMA = SPACES / "autoprune.schema.json"


@pytest.fixture(scope="module")
def host():
    """Our own plugins alone, whatever else is installed."""
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return PluginHost([e for e in found if e.dist is not None and e.dist.name == "autoprune"])


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """Folder of the real data and models; a missing one fails the tests that need it."""
    folder = (ROOT / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()
    monkeypatch.setenv("AUTOPRUNE_DATA", str(folder))
    return folder


def test_there_are_specs():
    examples = {
        "digits.yaml",
        "digits_membership.yaml",
        "digits_extraction.yaml",
        "digits_noise.yaml",
        "digits_explanations.yaml",
        "cifar10_resnet20.yaml",
        "cifar10_mobilenet.yaml",
        "sst2_lstm.yaml",
        "sst2_transformer.yaml",
    }
    assert {path.name for path in SPECS} >= examples


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_specs_are_valid(path, host):
    spec = load_spec(path, host=host)
    assert bind(spec, host).metrics.keys() >= spec.objectives.keys()
    assert spec.search.trials >= 24
    costs = {"macs", "params", "size", "latency"}
    kinds = {name.partition("_")[0] for name in spec.objectives}
    assert kinds & costs
    assert kinds - costs
    attacked = any(reference["use"] == "pgd" for reference in spec.evaluators)
    assert ("robust" in kinds) == attacked


@pytest.mark.slow
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_editors_find_the_schema_and_it_takes_the_spec(path):
    first, _, _ = path.read_text().partition("\n")
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SCHEMA
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), json.loads(SCHEMA.read_text()))


def test_the_schema_is_up_to_date(host):
    assert json.loads(SCHEMA.read_text()) == json_schema(host), (
        "search_spaces/autoprune.schema.json is out of date: autoprune schema > search_spaces/autoprune.schema.json"
    )


def of_the_examples(name):
    """A module that stands beside the examples."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_the_examples", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nets():
    """The definitions that the CIFAR example points to."""
    return of_the_examples("cifar_resnet")


@pytest.fixture(scope="module")
def mobilenets():
    """The definition that the MobileNet example points to."""
    return of_the_examples("cifar10_mobilenet")


@pytest.fixture(scope="module")
def text_models():
    """The definitions that the SST-2 examples point to."""
    return of_the_examples("sst2_models")


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_the_nets_have_the_published_parameters(nets, shared, name, parameters):
    network = getattr(nets, name)()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    weights = load_file(shared / f"models/{name}_cifar10.safetensors")
    own = {key: tensor.shape for key, tensor in network.state_dict().items() if "num_batches" not in key}
    assert {key: tensor.shape for key, tensor in weights.items()} == own


@pytest.mark.slow
def test_every_group_of_the_nets_can_be_cut(nets):
    structure = discover(nets.resnet20().eval(), (torch.rand(2, 3, 32, 32),))
    inner = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)}
    assert {group.name for group in structure.groups} == inner | {"conv1"}


@pytest.mark.slow
def test_a_depthwise_channel_of_the_mobilenet_goes_with_the_channel_that_it_filters(mobilenets):
    structure = discover(mobilenets.mobilenet().eval(), (torch.rand(2, 3, 32, 32),))
    layers = {group.name: set(group.layers) for group in structure.groups}
    inner = {f"blocks.{block}.expand.conv" for block in range(1, 8)}
    streams = {f"blocks.{block}.project.conv" for block in (0, 1, 3, 6)}  # what later blocks are added to
    assert layers.keys() == inner | streams | {"stem.conv", "head.conv"}
    assert "blocks.0.depthwise.conv" in layers["stem.conv"]
    assert all(name.replace("expand", "depthwise") in layers[name] for name in inner)


@pytest.mark.slow
def test_the_mobilenet_takes_the_images_of_its_spec(mobilenets, host):
    components = bind(load_spec(EXAMPLES / "cifar10_mobilenet.yaml", host=host), host)
    ctx = SourceContext(folder=EXAMPLES, cache=EXAMPLES / "no-cache", seed=0)
    data = components.data.load(ctx)
    network = components.model.build(ctx).eval()
    inputs, _ = data.test.fetch(torch.arange(20))
    with torch.inference_mode():
        scores = inputs.feed(network)
    assert scores.shape == (20, data.classes)
    assert scores.isfinite().all()


@pytest.fixture(scope="module")
def resnet20(host):
    """Model and data of the CIFAR example, as a search loads them."""
    folder = (ROOT / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPRUNE_DATA", str(folder))
        spec = load_spec(EXAMPLES / "cifar10_resnet20.yaml", host=host)
    components = bind(spec, host)
    ctx = SourceContext(folder=spec.document.folder, cache=spec.document.folder / "no-cache", seed=0)
    data = components.data.load(ctx)
    return components, data, components.model.load(data, ctx).eval()


@pytest.mark.long
@pytest.mark.slow
def test_resnet20_has_its_published_test_accuracy(resnet20):
    """87.25 % on all 10,000 images; normalisation, decoding, architecture and weights all have to be right."""
    _, data, network = resnet20
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.normalization.mean, data.normalization.std))
    right = 0
    with torch.inference_mode():
        for inputs, targets in data.test.batches(500):
            right += (network((inputs.first - mean) / std).argmax(1) == targets).sum().item()
    assert right / len(data.test) == pytest.approx(0.8725, abs=0.0005)


@pytest.mark.slow
def test_the_attack_leaves_the_dense_resnet20_between_40_and_80_percent(resnet20):
    """Outside of that range robust accuracy says little about which pruned model is the better one."""
    components, data, network = resnet20
    attack = next(e for e in components.evaluators if e.name == "pgd").model_copy(update={"samples": 64})
    measured = Bench(network, data).measure(attack)["robust_accuracy"]
    assert 0.4 <= measured.value <= 0.8


@pytest.mark.slow
def test_the_attack_leaves_the_dense_digits_net_between_40_and_80_percent(host, cache):
    components = bind(load_spec(EXAMPLES / "digits.yaml", host=host), host)
    ctx = SourceContext(folder=EXAMPLES, cache=cache / "autoprune", seed=0)
    data = components.data.load(ctx)
    attack = next(e for e in components.evaluators if e.name == "pgd")
    measured = Bench(components.model.load(data, ctx), data).measure(attack)["robust_accuracy"]
    assert 0.4 <= measured.value <= 0.8


def padded(count, length):
    """Sentences of all lengths from one word on."""
    tokens = torch.randint(1, 8000, (count, length), generator=torch.Generator().manual_seed(0))
    return tokens * (torch.arange(length) <= torch.arange(count)[:, None])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("lstm", {"embedding": (64, "neuron"), "lstm": (96, "hidden unit"), "classifier.hidden": (64, "neuron")}),
        (
            "transformer",
            {
                "embedding": (64, "neuron"),
                "layers.0.attention.query": (8, "head"),
                "layers.0.expand": (256, "neuron"),
                "layers.1.attention.query": (8, "head"),
                "layers.1.expand": (256, "neuron"),
                "classifier.hidden": (64, "neuron"),
            },
        ),
    ],
)
def test_every_group_of_the_text_models_can_be_cut(text_models, name, kinds):
    network = getattr(text_models, f"{name}_classifier")().eval()
    structure = discover(network, (padded(4, 32),))
    assert {group.name: (group.units, group.granularity) for group in structure.groups} == kinds


def test_the_transformer_does_not_look_at_padding(text_models):
    network = text_models.transformer_classifier().eval()
    torch.nn.init.normal_(network.position)
    tokens = padded(12, 32)[:, :12]
    with torch.inference_mode():
        longer = network(torch.nn.functional.pad(tokens, (0, 20)))
        torch.testing.assert_close(network(tokens), longer)
        # Padding is not looked at, whatever the rows of the table hold.
        network.embedding.weight[0] = 100.0
        torch.testing.assert_close(network(tokens), longer)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_words_are_dropped_in_training_alone(text_models, name):
    network = getattr(text_models, f"{name}_classifier")(dropout=0.0, word_dropout=1.0)
    tokens = padded(6, 8)
    with torch.no_grad():
        unknown = network.eval()(tokens.clamp(max=1))
        assert not torch.allclose(network(tokens), unknown, atol=1e-4)
        torch.testing.assert_close(network.train()(tokens), unknown)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_the_text_models_take_the_tokens_of_their_spec(text_models, host, name):
    spec = load_spec(EXAMPLES / f"sst2_{name}.yaml", host=host)
    components = bind(spec, host)
    ctx = SourceContext(folder=EXAMPLES, cache=EXAMPLES / "no-cache", seed=0)
    network = components.model.build(ctx).eval()
    assert network.embedding.num_embeddings == components.data.vocabulary
    inputs, _ = components.data.load(ctx).test.fetch(torch.arange(50))
    with torch.inference_mode():
        scores = inputs.feed(network)
    assert scores.shape == (50, 2)
    assert scores.isfinite().all()
