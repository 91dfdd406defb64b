"""Networks that components are not to change: every change is found, and the dense one is put back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from autoprune.errors import StudyError, TrialError
from autoprune.study.guards import Watched, _weighted
from autoprune.study.unsaved import lost_when_saved


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("notes", torch.zeros(3), persistent=False)
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))

    def forward(self, x):
        self.notes += 1
        return self.head(self.drop(self.stem(x)).mean((2, 3))) * self.scale


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = Net().eval()
    with torch.no_grad():
        made.head.bias[0] = float("nan")
    return made


X = torch.rand(8, 1, 6, 6)


def swap_rows(net):
    net.stem[0].weight.data = net.stem[0].weight.data.flip(0)


def swap_columns(net):
    net.head.weight.data = net.head.weight.data.flip(1)


def step(net):
    with torch.no_grad():
        net.head.weight[0, 0] = torch.nextafter(net.head.weight[0, 0], torch.tensor(9.0))


def train(net):
    net.train()(X)
    net.eval()


def replace(net):
    net.drop = nn.Identity()


def hang(net):
    net.stem[0].register_forward_hook(lambda *_: None)


def hang_backward(net):
    net.head.register_full_backward_hook(lambda *_: None)


def patch(net):
    net.head.forward = lambda x: x


CHANGES = [
    (step, "head.weight"),
    (swap_rows, "stem.0.weight"),
    (swap_columns, "head.weight"),
    (train, "stem.1.running_mean, stem.1.running_var, stem.1.num_batches_tracked"),
    (lambda net: net.scale.fill_(3.0), "scale"),
    (lambda net: net.phase.conj_physical_().mul_(1j), "phase"),
    (lambda net: net.double(), "scale, stem.0.weight, stem.0.bias and 6 more"),
    (replace, "drop is a Identity"),
    (hang, "stem.0 has other hooks"),
    (hang_backward, "head has other hooks"),
    (patch, "head has another forward"),
    (lambda net: net.add_module("extra", nn.Linear(1, 1)), "extra is new, extra.weight, extra.bias"),
    (lambda net: net.__delattr__("head"), "head is gone, head.weight, head.bias"),
    (lambda net: setattr(net.head, "weight", nn.Parameter(torch.ones(2, 5))), "head.weight"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[told for _, told in CHANGES])
def test_a_change_is_told_and_undone(net, change, told):
    whole = copy.deepcopy(net)
    guard = Watched(net, "the dense network", lambda: copy.deepcopy(whole))
    change(net)
    with pytest.raises(TrialError) as caught:
        guard.check()
    assert str(caught.value) == f"changed the dense network ({told})"
    guard.restore()
    guard.check()
    assert list(net.state_dict()) == list(whole.state_dict())
    for name, tensor in net.state_dict().items():
        assert tensor.equal(whole.state_dict()[name]) or tensor.isnan().any(), name
    assert net.head.bias.isnan().tolist() == [True, False]
    assert [type(m) for m in net.modules()] == [type(m) for m in whole.modules()]
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert net(X).shape == (8, 2)


def test_looking_calling_and_differentiating_change_nothing(net):
    guard = Watched(net, "the model that it measured")
    net(X)[:, 1].sum().backward()
    dict(net.named_parameters())
    copy.deepcopy(net).train()(X)
    handle = net.head.register_forward_hook(lambda *_: None)
    net(X)
    handle.remove()
    guard.check()
    net.stem.train()
    net.drop.train()
    guard.check()
    assert not any(module.training for module in net.modules()), "modes are put back in silence"


def test_what_cannot_be_put_back_ends_the_study(net):
    guard = Watched(net, "the dense network", lambda: Net().eval())
    step(net)
    with pytest.raises(StudyError, match=r"changed the dense network \(head\.weight\), which cannot be loaded again"):
        guard.restore()


def test_other_devices_add_up_on_the_device_and_miss_nothing_either():
    """What stands for a checksum there, on a CPU."""
    bits = torch.randn(3, 4, 2).view(torch.int32)
    whole = _weighted(bits)
    step = bits.clone()
    step[2, 1, 0] += 1
    for other in (step, bits.flip(0), bits.flip(1), bits.flip(2), bits[:, [1, 0, 2, 3]], bits[[1, 0, 2]]):
        assert _weighted(other) != whole
    assert _weighted(bits.clone()) == whole
    for odd in (torch.tensor(5), torch.zeros(0, 3, dtype=torch.int32), torch.ones(4, dtype=torch.int8)):
        assert _weighted(odd).shape == ()
        assert _weighted(odd).dtype == torch.int64
    assert _weighted(torch.tensor([1, 2])) != _weighted(torch.tensor([2, 1]))
    square = torch.arange(9).reshape(3, 3)
    assert _weighted(square) != _weighted(square.T)


def test_parameters_that_are_tied_stay_tied(net):
    net.twin = nn.Linear(4, 2)
    net.twin.weight = net.head.weight
    whole = copy.deepcopy(net)
    guard = Watched(net, "the dense network", lambda: copy.deepcopy(whole))
    net.head.weight = nn.Parameter(torch.zeros(2, 4))
    with pytest.raises(TrialError, match=r"\(head\.weight\)"):
        guard.check()
    guard.restore()
    assert net.twin.weight is net.head.weight
    assert net.head.weight.equal(whole.head.weight)


# What a saved model would lose


class Gate(nn.Module):
    def forward(self, x):
        return x


def gated(net):
    net.drop = nn.Sequential(net.drop, Gate())


LOST = [
    (hang, "module stem.0 has a forward hook"),
    (hang_backward, "module head has a backward hook"),
    (lambda net: net.register_forward_pre_hook(lambda *_: None), "the network has a forward hook"),
    (lambda net: setattr(net, "drop", Gate()), "module drop is a Gate, not a Dropout"),
    (gated, "module drop is a Sequential, not a Dropout"),
    (lambda net: net.add_module("gate", Gate()), "module gate (Gate) is new"),
    (lambda net: net.__delattr__("drop"), "module drop (Dropout) is gone"),
    (patch, "module head has a forward of its own"),
    (lambda net: setattr(net.stem[0], "_conv_forward", lambda *_: 0), "module stem.0 has a _conv_forward of its own"),
    (lambda net: parametrizations.weight_norm(net.head), "module head has a parametrization of weight"),
]


@pytest.mark.parametrize(("change", "told"), LOST, ids=[told for _, told in LOST])
def test_what_a_saved_model_would_lose_is_told(net, change, told):
    pruned = copy.deepcopy(net)
    change(pruned)
    said = lost_when_saved(pruned, net)
    assert said == f"{told}, which a saved model would not have; replace modules by a transform (`transforms:`)"


def test_other_weights_and_sizes_and_what_the_dense_network_has_too_are_saved(net):
    net.head.register_forward_hook(lambda *_: None)
    net.head.forward = net.head.forward
    net.activation = torch.relu
    pruned = copy.deepcopy(net)
    pruned.stem[0] = nn.Conv2d(1, 3, 3)
    pruned.head.bias.requires_grad_(False)
    pruned.head.weight.register_hook(lambda gradient: gradient)  # as masks do
    assert lost_when_saved(pruned, net) is None


@pytest.mark.slow
def test_the_engines_own_stand_ins_are_saved():
    from autoprune.structure import discover

    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.rand(4, 5, 8)
    structure = discover(net, (x,))
    heads = next(group for group in structure.groups if group.granularity == "head")
    pruned = structure.cut(net, {heads.name: torch.tensor([0])})
    assert type(pruned.self_attn).__name__ == "CutMultiheadAttention"
    assert lost_when_saved(pruned, net) is None


def test_a_factory_that_makes_its_classes_anew_is_no_fault():
    def build():
        class Local(nn.Module):
            pass

        return nn.Sequential(Local())

    assert lost_when_saved(build(), build()) is None
