"""Random nets: whatever they are made of, a cut one equals the masked original.

The default run tries 20 nets, the same ones every time. ``AUTOPRUNE_NETS=500 pytest -n 0 -s …`` tries 500
other ones and prints what it saw.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.errors import StructureError
from autoprune.plugin import Costs
from autoprune.structure import Structure, discover

from . import random_joints as joints
from . import random_sequence_steps as seq
from . import random_steps as steps
from .random_nets import nets
from .random_program import Form, Net, Run

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

NETS = int(os.environ.get("AUTOPRUNE_NETS", "0"))
GRANULARITIES = (
    ("channels",),
    ("channels", "blocks"),
    ("channels", "blocks", "weights"),
    ("channels", "2:4"),
    ("kernels",),
)
QUIET = (joints.Scale(buffer=True, per_channel=False, add=False),) * 10
REGRESSIONS = (
    # A size that the module holds is that of what it makes, not of what it reads, though both are 6.
    Net(Form("vector", (7,)), (seq.Linear(6), seq.MatrixLinear(6, "addmm"), seq.Linear(3))),
    # One attribute is the size of a head of the query and of the value.
    Net(
        Form("map", (3, 8, 8)),
        (steps.Conv(3), steps.Window((seq.Attention(1, 3, 1, "matmul"),)), steps.ToVector("mean"), seq.Linear(3)),
    ),
    # Channels that torch's own shuffle moves between blocks.
    Net(
        Form("map", (3, 8, 8)),
        (steps.Conv(6), steps.Conv(12, groups=6), steps.ChannelShuffle(2, by_hand=False), steps.Conv(2)),
    ),
    # A scale that the code computes from the width, on a path that adds a thousandth to the output.
    Net(
        Form("vector", (7,)),
        (joints.Residual((seq.Linear(8), joints.OverChannels("divide"), *QUIET, seq.Linear(3)), "project"),),
    ),
    # An exported graph has no buffer that the code never reads; here the mask, which a table takes the place of.
    Net(
        Form("sequence", (5, 6)),
        (
            seq.Linear(6),
            seq.Attention(2, 3, 2, causal=True, table=True),
            joints.OverChannels("divide"),
            seq.Linear(3),
        ),
    ),
)
"""Nets that once gave a wrong model or wrong costs."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Relative to the largest output."""

Kept = dict[str, Tensor]


@dataclass
class Tally:
    """What a run saw."""

    nets: int = 0
    untraceable: int = 0
    whole: int = 0
    graphs: int = 0
    """Whose cut ones are exported graphs."""
    groups: int = 0
    candidates: int = 0
    by_zeros: int = 0
    """Candidates that were compared with the net with zeros too."""


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    tally = Tally()
    yield tally
    print(f"\n{tally}")


@pytest.mark.long
@pytest.mark.slow
@settings(
    max_examples=NETS or 20,
    derandomize=not NETS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink] if NETS else [])],
)
@given(net=nets(), granularities=st.sampled_from((GRANULARITIES[0], *GRANULARITIES)))
def test_random_nets(net: Net, granularities: tuple[str, ...], tally: Tally) -> None:
    check(net, tally, granularities)


@pytest.mark.slow
@pytest.mark.parametrize("net", REGRESSIONS, ids=repr)
def test_regressions(net: Net, tally: Tally) -> None:
    check(net, tally)


def check(net: Net, tally: Tally, granularities: tuple[str, ...] = GRANULARITIES[0]) -> None:
    """All that must hold for a net."""
    dense = net.build()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    tally.nets += 1
    if not dense(*net.inputs(2, seed=0)).isfinite().all():
        event("not finite")
        return
    try:
        structure = discover(dense, net.inputs(2, seed=0), granularities)
    except StructureError as error:
        assert "cannot trace" in str(error)  # noqa: PT017  what it says is the point
        tally.untraceable += 1
        event("untraceable")
        return
    tally.whole += not structure.groups
    tally.groups += len(structure.groups)
    if not structure.groups:
        return
    # An exported graph has its float type written into it.
    exact = dense if structure.form == "graph" else copy.deepcopy(dense).double()
    tally.graphs += structure.form == "graph"
    for seed in (1, 2, 3):
        kept, cut_units = candidate(structure, seed)
        tally.candidates += 1
        tally.by_zeros += equals_the_references(net, exact, structure, kept, seed)
        small = structure.cut(dense, kept)
        composes(dense, structure, kept, small, seed)
        costs_are_counted(net, small, structure.costs(cut_units, structure.bypassed(kept)))
        if not any(group.owned or group.masked for group in structure.groups):
            row = np.array([[cut_units[group.name] for group in structure.groups]], dtype=np.int64)
            assert structure.cost_table(row) == [structure.costs(cut_units)]
        if seed == 1:
            trains(net, small)
    after = dense.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), "the dense net changed"
    assert not any(module.training for module in dense.modules())


def candidate(structure: Structure, seed: int) -> tuple[Kept, dict[str, int]]:
    """Random units of every group, at least one each; the last seed leaves most groups whole."""
    generator = torch.Generator().manual_seed(seed)
    scores, cut_units = {}, {}
    for group in structure.groups:
        scores[group.name] = torch.rand(group.units, generator=generator)
        share = torch.rand((), generator=generator) if seed < 3 or torch.rand((), generator=generator) < 0.3 else 0.0
        cut_units[group.name] = int(share * group.units) // group.step * group.step
    kept = structure.select(scores, cut_units)
    for group in structure.groups:
        if not group.masked:
            assert len(kept[group.name]) == group.units - cut_units[group.name]
    return kept, cut_units


def equals_the_references(net: Net, exact: nn.Module, structure: Structure, kept: Kept, seed: int) -> bool:
    """The engine's own reference, and one that shares nothing with the engine but the groups.

    Returns:
        Whether the second one could be compared: means over cut channels run over those that are left, and where no
        scale tells which these are, only the engine's reference knows.
    """
    inputs = net.inputs(3, seed, next(exact.parameters()).dtype)  # another batch size than discovery saw
    small = structure.cut(exact, kept)
    with torch.no_grad():
        made = small(*inputs)
        close(made, structure.masked(exact, kept)(*inputs), "the masked net")
        close(structure.cut(exact, kept, share=True)(*inputs), made, "the cut that shares nothing")
        averaging = widths(exact, inputs)
        if averaging and (structure.form == "graph" or widths(small, inputs).items() - averaging.items()):
            return False
    # With gradients, since torch's encoder layer has a fused path without them, which reads its norms' weights itself.
    close(made, masked_by_slices(exact, structure, kept)(*inputs).detach(), "the net with zeros")
    return True


def composes(dense: nn.Module, structure: Structure, kept: Kept, small: nn.Module, seed: int) -> None:
    """A smaller cut of a larger one is the smaller one, bit for bit."""
    generator = torch.Generator().manual_seed(seed)
    before = {}
    for name, units in kept.items():
        if units.dtype == torch.bool:
            before[name] = units | (torch.rand(len(units), generator=generator) < 0.5)
        else:
            total = next(group.units for group in structure.groups if group.name == name)
            more = torch.arange(total)[torch.rand(total, generator=generator) < 0.5]
            before[name] = torch.unique(torch.cat([units, more]))
    again = structure.cut(structure.cut(dense, before), kept, before=before)
    assert str(again) == str(small)
    tensors = again.state_dict()
    assert tensors.keys() == small.state_dict().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in small.state_dict().items())


def widths(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, torch.Size]:
    """What those modules read that average over channels and have no scale."""
    found: dict[str, torch.Size] = {}

    def watch(name: str, module: nn.Module) -> None:
        own = isinstance(module, Run) and isinstance(module.step, joints.OverChannels | steps.SpatialGate)
        if own or (isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) and module.weight is None):
            module.register_forward_pre_hook(lambda _, args: found.setdefault(name, args[0].shape) and None)

    net = copy.deepcopy(net)
    for name, module in net.named_modules():
        watch(name, module)
    net(*inputs)
    return found


def close(actual: Tensor, expected: Tensor, what: str) -> None:
    assert actual.shape == expected.shape
    worst = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-9))
    assert worst <= TOLERANCE[actual.dtype], f"differs from {what} by {worst:.2g} of the largest output"


def masked_by_slices(net: nn.Module, structure: Structure, kept: Mapping[str, Tensor]) -> nn.Module:
    """Zeros written through the groups; norms read the entries alone whose scale was kept, blocks are skipped."""
    net = copy.deepcopy(net)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    gone: dict[str, set[int]] = {}
    with torch.no_grad():
        for group in structure.groups:
            stays = kept[group.name]
            if group.masked:
                tensors[group.masked].reshape(group.units, -1)[~stays] = 0.0
            elif group.owned:
                for unit in set(range(group.units)) - set(stays.tolist()):
                    net.get_submodule(group.layers[unit]).register_forward_hook(lambda _, args, __: args[0])
            else:
                cut = [unit for unit in range(group.units) if unit not in stays.tolist()]
                for part in group.slices:
                    entries = part.index[cut].reshape(-1)
                    tensors[part.parameter].index_fill_(part.dim, entries, 0.0)
                    gone.setdefault(part.parameter, set()).update(entries.tolist())
    for name, module in net.named_modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm | steps.HandNorm) and f"{name}.weight" in gone:
            stays = sorted(set(range(len(module.weight))) - gone[f"{name}.weight"])
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, KeptNorm(module, torch.tensor(stays)))
    return net


class KeptNorm(nn.Module):
    """A norm of the kept channels; the others are zero."""

    def __init__(self, norm: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept
        self.weight, self.bias, self.eps = norm.weight, getattr(norm, "bias", None), getattr(norm, "eps", None)

    def forward(self, x: Tensor) -> Tensor:
        norm, kept = self.norm, self.kept
        dim = (
            norm.dim % x.ndim
            if isinstance(norm, steps.HandNorm)
            else 1
            if isinstance(norm, nn.GroupNorm)
            else x.ndim - 1
        )
        small = x.index_select(dim, kept)
        weight = norm.weight[kept]
        match norm:
            case nn.GroupNorm():
                groups = len({channel // (len(norm.weight) // norm.num_groups) for channel in kept.tolist()})
                made = F.group_norm(small, groups, weight, norm.bias[kept], norm.eps)
            case nn.LayerNorm():
                made = F.layer_norm(small, (len(kept),), weight, norm.bias[kept], norm.eps)
            case nn.RMSNorm():
                made = F.rms_norm(small, (len(kept),), weight, norm.eps)
            case _:
                norm = copy.deepcopy(norm)
                norm.weight, norm.bias = nn.Parameter(weight), nn.Parameter(norm.bias[kept])
                made = norm(small)
        return torch.zeros_like(x).index_copy(dim, kept, made)


def costs_are_counted(net: Net, small: nn.Module, costs: Costs) -> None:
    assert costs.params == sum(parameter.numel() for parameter in small.parameters())
    assert costs.nonzero == sum(int(parameter.count_nonzero()) for parameter in small.parameters())
    tensors = {id(tensor): tensor for tensor in (*small.parameters(), *small.buffers())}
    assert costs.bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if re.search(r"Recurrent|Outer\(.*module=True|[eE]insum", repr(net)):
        return  # the counter below does not know them, and einsum multiplies entry by entry where one unit is left
    # With gradients, since without them `nn.MultiheadAttention` is one operator that the counter does not know.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        small(*net.inputs(1, seed=0))
    assert costs.macs == counter.get_total_flops() // 2, f"{costs.macs} MACs, counted {counter.get_total_flops() // 2}"


def trains(net: Net, small: nn.Module) -> None:
    small.train().requires_grad_(True)
    optimizer = torch.optim.SGD(small.parameters(), lr=1e-3)
    small(*net.inputs(4, seed=9)).square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in small.parameters())
    assert any(p.grad is not None for p in small.parameters())
    optimizer.step()
