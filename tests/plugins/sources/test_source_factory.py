from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from autoprune import DataError
from autoprune_sources.factory import Factory

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, 3)

    def forward(self, x):
        return self.linear(self.bn(self.conv(x)).mean((2, 3)))

def wide(width=8):
    return Net(width)

def nothing():
    return 3

def broken():
    raise RuntimeError("no such variant")

made = Net()
SIZE = 4
"""


@pytest.fixture(autouse=True)
def clean_imports():
    """Nothing of one test's folder stays imported for the next."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path, "the import path is as it was"
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "pytest-" in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def net(ctx):
    (ctx.folder / "mymodels.py").write_text(NET)
    return ctx


@pytest.fixture
def weights(net):
    """Trained-looking weights of the net, as a file of each kind holds them."""
    model = Factory(target="mymodels:Net").build(replace(net, seed=5))
    model.bn.running_mean.uniform_()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def load(ctx, **options):
    return Factory(**{"target": "mymodels:Net", **options}).load(None, ctx)


def test_build_calls_the_target_with_its_arguments(net):
    network = Factory(target="mymodels:wide", args={"width": 6}).build(net)
    assert network.conv.out_channels == 6
    assert type(network).__module__ == "mymodels"


def test_installed_modules_and_nested_names_are_found(ctx):
    network = Factory(target="torch.nn:modules.linear.Linear", args={"in_features": 2, "out_features": 3}).build(ctx)
    assert isinstance(network, nn.Linear)


def test_random_weights_come_from_the_seed_and_leave_the_global_generator_alone(net):
    before = torch.get_rng_state()
    first, again = (Factory(target="mymodels:Net").build(net) for _ in range(2))
    other = Factory(target="mymodels:Net").build(replace(net, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.conv.weight, again.conv.weight)
    assert not torch.equal(first.conv.weight, other.conv.weight)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth of a checkpoint", "pth of DataParallel"])
def test_weights_of_every_kind_of_file(net, weights, kind):
    if kind == "safetensors":
        save_file(weights, file := net.folder / "w.safetensors")
    elif kind == "pt":
        torch.save(weights, file := net.folder / "w.pt")
    elif kind == "pth of a checkpoint":
        torch.save({"state_dict": weights, "epoch": 3, "best": 0.9}, file := net.folder / "w.pth")
    else:
        torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, file := net.folder / "w.pth")
    network = load(net, weights=file.name)
    assert {name: t.tolist() for name, t in network.state_dict().items()} == {n: t.tolist() for n, t in weights.items()}


def test_batch_counters_may_be_missing(net, weights):
    del weights["bn.num_batches_tracked"]
    save_file(weights, net.folder / "w.safetensors")
    assert torch.equal(load(net, weights="w.safetensors").conv.weight, weights["conv.weight"])


def test_names_that_do_not_fit_are_told_with_near_ones(net, weights):
    weights["conv.wieght"] = weights.pop("conv.weight")
    save_file(weights, file := net.folder / "w.safetensors")
    with pytest.raises(DataError) as caught:
        load(net, weights="w.safetensors")
    assert str(caught.value) == (
        f"{file} does not fit the model; missing: conv.weight; "
        "unknown to the model: conv.wieght (did you mean 'conv.weight'?)"
    )


def test_strict_false_takes_what_fits(net, weights):
    weights["head.weight"] = weights.pop("linear.weight")
    save_file(weights, net.folder / "w.safetensors")
    with pytest.raises(DataError, match=r"missing: linear\.weight"):
        load(net, weights="w.safetensors")
    network = load(net, weights="w.safetensors", strict=False)
    assert torch.equal(network.conv.weight, weights["conv.weight"])


def test_strict_false_is_no_excuse_for_another_model_s_weights(net):
    save_file({"layer.weight": torch.ones(2)}, net.folder / "w.safetensors")
    with pytest.raises(DataError, match=r"unknown to the model: layer\.weight"):
        load(net, weights="w.safetensors", strict=False)


def test_shapes_are_told_even_when_not_strict(net, weights):
    save_file(weights, net.folder / "w.safetensors")
    with pytest.raises(DataError, match=r"wrong shape: conv\.weight is 4x1x3x3, the model's is 8x1x3x3"):
        load(net, target="mymodels:wide", weights="w.safetensors", strict=False)


class Payload:
    """What an attacker would pickle: unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_run(net, tmp_path):
    proof = tmp_path / "proof"
    torch.save({"weight": Payload(proof)}, net.folder / "w.pt")
    with pytest.raises(DataError, match=r"w\.pt: cannot be read as plain weights, and nothing else is unpickled"):
        load(net, weights="w.pt")
    assert not proof.exists()
    with (net.folder / "plain.pth").open("wb") as file:
        pickle.dump(Payload(proof), file)
    proof.unlink(missing_ok=True)
    with pytest.raises(DataError, match="nothing else is unpickled"):
        load(net, weights="plain.pth")
    assert not proof.exists()


def test_a_whole_pickled_model_is_refused(net):
    torch.save(nn.Linear(2, 2), net.folder / "w.pt")
    with pytest.raises(DataError, match=r"save model\.state_dict\(\)"):
        load(net, weights="w.pt")


def test_tensors_without_names_are_refused(net):
    torch.save([torch.ones(2)], net.folder / "w.pt")
    with pytest.raises(DataError, match="holds no mapping of names to tensors"):
        load(net, weights="w.pt")


def test_damaged_safetensors_are_told(net):
    (net.folder / "w.safetensors").write_bytes(b"not a header")
    with pytest.raises(DataError, match=r"w\.safetensors: cannot be read as safetensors"):
        load(net, weights="w.safetensors")


def test_a_missing_file_is_told_with_a_near_name(net):
    (net.folder / "weights").mkdir()
    (net.folder / "weights" / "resnet20.safetensors").touch()
    with pytest.raises(DataError, match=r"there is no 'resnet02\.safetensors' in .*weights; did you mean 'resnet20"):
        load(net, weights="weights/resnet02.safetensors")
    with pytest.raises(DataError, match=r"there is no 'wieghts' in .*; did you mean 'weights'"):
        load(net, weights="wieghts/resnet20.safetensors")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mymodel:Net", r"no module 'mymodel' in .*spec or among the installed ones; did you mean 'mymodels'\?"),
        ("torch.optim.adan:Adam", r"no module 'adan' in torch\.optim; did you mean 'adam'\?"),
        ("mymodels:Nett", r"mymodels\.py has no 'Nett'; did you mean 'Net'\?"),
        ("mymodels:SIZE", "is int, not a function or class"),
        ("mymodels:made", "is a model already"),
        ("mymodels:nothing", r"made int, not a torch\.nn\.Module"),
        ("mymodels:broken", r"calling it failed: RuntimeError: no such variant \(.*mymodels\.py:21\)"),
    ],
)
def test_a_target_that_makes_no_model_is_told(net, target, message):
    with pytest.raises(DataError, match=f"^target '{target}'.*{message}"):
        Factory(target=target).build(net)


def test_arguments_that_the_callable_refuses_are_told(net):
    with pytest.raises(DataError, match=r"calling it failed: TypeError: .*'depth'"):
        Factory(target="mymodels:wide", args={"depth": 3}).build(net)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", r"ModuleNotFoundError: .*nothing_of_that_name.*\(.*faulty\.py:1\)"),
        ("x = 1\n1 / 0", r"ZeroDivisionError: .*\(.*faulty\.py:2\)"),
        ("def f(:\n", r"SyntaxError: .*\(.*faulty\.py:1\)"),
        ("raise SystemExit(2)", r"SystemExit: 2 \(.*faulty\.py:1\)"),
    ],
)
def test_a_module_that_fails_while_imported_is_told(ctx, text, message):
    (ctx.folder / "faulty.py").write_text(text)
    with pytest.raises(DataError, match=f"importing faulty failed: {message}"):
        Factory(target="faulty:f").build(ctx)


@pytest.mark.parametrize("target", ["mymodels", "mymodels:", ":Net", "my-models:Net", "a.py:Net:x", "mymodels.py Net"])
def test_a_malformed_target_is_refused_with_the_spec(target):
    with pytest.raises(ValidationError, match="write module:callable"):
        Factory(target=target)


def test_weights_of_another_suffix_are_refused_with_the_spec():
    with pytest.raises(ValidationError, match=r"weights end in \.safetensors, \.pt, \.pth"):
        Factory(target="a:b", weights="model.pkl")


def folder_with(tmp_path, ctx, name, **files):
    folder = tmp_path / name
    for path, text in files.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".py").write_text(text)
    return replace(ctx, folder=folder)


LAYERS = "from torch import nn\nclass Layer(nn.Linear):\n    which = {which!r}\n"
TOP = """
import layers
from nets.inner import Layer as Inner

def make():
    from late import which
    net = layers.Layer(2, 2)
    net.late, net.inner = which, Inner.which
    return net
"""


def test_two_folders_with_modules_of_one_name_do_not_mix(tmp_path, ctx):
    first, second = (
        folder_with(
            tmp_path, ctx, which,
            mymodels=TOP, layers=LAYERS.format(which=which), nets__inner=LAYERS.format(which=which),
            late=f"which = {which!r}",
        )
        for which in ("first", "second")
    )  # fmt: skip
    factory = Factory(target="mymodels:make")
    made = [factory.build(ctx) for ctx in (first, second, first)]
    assert [(net.which, net.late, net.inner) for net in made] == [(w, w, w) for w in ("first", "second", "first")]
    # Each works on, whatever was imported since.
    for net in made:
        twin = copy.deepcopy(net)
        assert torch.equal(twin(torch.ones(1, 2)), net(torch.ones(1, 2)))


def test_a_model_s_class_can_be_pickled_by_name(net):
    network = load(net)
    assert torch.equal(pickle.loads(pickle.dumps(network)).conv.weight, network.conv.weight)
    assert type(load(net)) is type(network)


def test_the_spec_s_folder_comes_before_installed_modules(ctx):
    # tabnanny: a module of the standard library that nothing here has imported.
    assert "tabnanny" not in sys.modules
    (ctx.folder / "tabnanny.py").write_text(NET)
    assert isinstance(Factory(target="tabnanny:Net").build(ctx), nn.Module)


def test_a_module_that_the_process_uses_is_not_replaced(ctx):
    import hypothesis

    (ctx.folder / "hypothesis.py").write_text(NET)
    with pytest.raises(DataError, match=r"this process has imported .* as 'hypothesis' already; rename one of them"):
        Factory(target="hypothesis:Net").build(ctx)
    assert sys.modules["hypothesis"] is hypothesis


def test_a_data_folder_hides_no_installed_package(ctx):
    (ctx.folder / "torch").mkdir()
    assert isinstance(Factory(target="torch.nn:Identity").build(ctx), nn.Identity)


def test_a_package_in_the_folder_works(ctx):
    package = ctx.folder / "zoo"
    package.mkdir()
    (package / "__init__.py").write_text("from .net import Net")
    (package / "net.py").write_text(NET)
    assert isinstance(Factory(target="zoo:Net").build(ctx), nn.Module)
    assert isinstance(Factory(target="zoo.net:Net").build(ctx), nn.Module)
    with pytest.raises(DataError, match=r"no module 'nett' in zoo; did you mean 'net'\?"):
        Factory(target="zoo.nett:Net").build(ctx)


def test_a_path_beside_the_spec_is_handed_over_in_full(ctx):
    sized = (
        "from pathlib import Path\ndef sized(file, note):\n    return Net(int(Path(file).read_text()) + len(note))\n"
    )
    (ctx.folder / "mymodels.py").write_text(NET + sized)
    (ctx.folder / "width.txt").write_text("2")
    network = Factory(target="mymodels:sized", args={"file": "width.txt", "note": "text"}).build(ctx)
    assert network.conv.out_channels == 6
