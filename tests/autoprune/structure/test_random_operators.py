"""Chains of operators at random: what is offered of them is cut right, whatever comes before and after.

``AUTOPRUNE_NETS=300 pytest -n 0 …`` tries 300 other ones.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoprune.structure import discover

from .operator_nets import Net
from .zeros import close, kept_units, with_zeros

NETS = int(os.environ.get("AUTOPRUNE_NETS", "0"))
STEPS = 5
PLACES = torch.tensor([[0, 2], [1, 1], [4, 3], [2, 0], [3, 4]])

Way = Callable[[Net, Tensor], Tensor]


def accumulated(m: Net, x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for layer in (m.a, m.b):
        total = total + layer(x).tanh()
    return total


def written(m: Net, x: Tensor) -> Tensor:
    made = x.new_zeros(len(x), STEPS, 2, m.width)
    made[:, :, 0], made[:, :, 1] = m.a(x), m.b(x)
    return made.tanh().sum(2)


def filled(m: Net, x: Tensor) -> Tensor:
    return m.a(x) * x.new_full((len(x), STEPS, m.width), 0.5) + torch.ones_like(x)


def masked(m: Net, x: Tensor) -> Tensor:
    y = m.a(x)
    return y.masked_fill((x[..., :1] > 0).expand_as(y), 0.2)


def expanded(m: Net, x: Tensor) -> Tensor:
    return m.a(x) * m.gate(x).expand(-1, -1, m.width).sigmoid()


def stepped(m: Net, x: Tensor) -> Tensor:
    h, made = None, []
    for t in range(STEPS):
        h = m.cell(x[:, t], h)
        made.append(h)
    return torch.stack(made, 1)


def stepped_twice(m: Net, x: Tensor) -> Tensor:
    state = x.new_zeros(len(x), m.width), x.new_zeros(len(x), m.width)
    made = []
    for t in range(STEPS):
        state = m.lstm(x[:, t], state)
        made.append(state[0] * state[1])
    return torch.stack(made, 1)


def sent(m: Net, x: Tensor) -> Tensor:
    start, end = (PLACES[:, n].view(1, -1, 1).expand(len(x), -1, x.shape[2]) for n in (0, 1))
    return x + torch.zeros_like(x).scatter_add(1, end, m.a(x.gather(1, start)).relu())


def copied(m: Net, x: Tensor) -> Tensor:
    return m.a(x).index_copy(1, PLACES[:2, 0], m.b(x[:, :2]))


def added(m: Net, x: Tensor) -> Tensor:
    return x.index_add(1, PLACES[:, 1], m.a(x))


def put(m: Net, x: Tensor) -> Tensor:
    y = m.a(x).clone()
    y[:, [0, 3]] = m.b(x)[:, 1:3]
    return y


def running(m: Net, x: Tensor) -> Tensor:
    return m.a(x).cumsum(1) + m.b(x).cummax(1).values


def paired(m: Net, x: Tensor) -> Tensor:
    return m.pair(m.a(x).tanh(), m.b(x).tanh())


def compared(m: Net, x: Tensor) -> Tensor:
    return x * torch.linalg.vecdot(m.a(x).tanh(), m.b(x).tanh())[..., None]


def weighed(m: Net, x: Tensor) -> Tensor:
    return m.a(x) * (m.b(x).relu() @ m.vector).tanh()[..., None]


def routed(m: Net, x: Tensor) -> Tensor:
    hidden = torch.einsum("ntd,edh->nteh", x, m.up).relu()
    return torch.einsum("nteh,ehd,nte->ntd", hidden, m.down, m.router(x).softmax(-1))


def chosen(m: Net, x: Tensor) -> Tensor:
    weight, expert = m.router(x).softmax(-1).max(-1)
    hidden = (x[:, :, None] @ m.up[expert]).relu()
    return (
        x + (hidden @ m.down.index_select(0, expert.flatten()).unflatten(0, expert.shape))[:, :, 0] * weight[..., None]
    )


def mixed(m: Net, x: Tensor) -> Tensor:
    return x + m.back(F.silu(m.forth(x.mT) * m.scale[:, None])).mT * m.b(x).tanh()


WAYS: tuple[Way, ...] = (
    accumulated, written, filled, masked, expanded, stepped, stepped_twice, sent, copied, added, put, running, paired,
    compared, weighed, routed, chosen, mixed,
)  # fmt: skip


def block(way: Way, width: int) -> Net:
    """All that any of the ways needs, from ``width`` to ``width``."""
    return Net(
        way,
        width=width,
        a=lambda: nn.Linear(width, width),
        b=lambda: nn.Linear(width, width),
        gate=lambda: nn.Linear(width, 1),
        cell=lambda: nn.GRUCell(width, width),
        lstm=lambda: nn.LSTMCell(width, width),
        pair=lambda: nn.Bilinear(width, width, width),
        forth=lambda: nn.Linear(STEPS, 9),
        back=lambda: nn.Linear(9, STEPS),
        scale=lambda: nn.Parameter(torch.randn(width)),
        router=lambda: nn.Linear(width, 3),
        vector=lambda: nn.Parameter(torch.randn(width)),
        up=lambda: nn.Parameter(0.3 * torch.randn(3, width, 7)),
        down=lambda: nn.Parameter(0.3 * torch.randn(3, 7, width)),
    )


class Chain(nn.Module):
    def __init__(self, ways: list[tuple[Way, int, bool]]) -> None:
        super().__init__()
        widths = [6, *(width for _, width, _ in ways)]
        self.into = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(block(way, width) for way, width, _ in ways)
        self.residual = [residual for _, _, residual in ways]
        self.out = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        for into, layer, residual in zip(self.into, self.blocks, self.residual, strict=True):
            x = F.gelu(into(x))
            x = x + layer(x) if residual else layer(x)
        return self.out(x)


def chain(ways: list[tuple[Way, int, bool]]) -> Chain:
    torch.manual_seed(0)
    return Chain(ways).eval()


def inputs(samples: int) -> Tensor:
    return torch.randn(samples, STEPS, 6, generator=torch.Generator().manual_seed(samples))


@pytest.mark.long
@pytest.mark.slow
@settings(
    max_examples=NETS or 25,
    derandomize=not NETS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink] if NETS else [])],
)
@given(
    ways=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(4, 8), st.booleans()), min_size=1, max_size=3),
    share=st.sampled_from((0.2, 0.5, 0.8)),
    seed=st.integers(0, 99),
)
def test_random_chains(ways: list[tuple[Way, int, bool]], share: float, seed: int) -> None:
    dense = chain(ways)
    structure = discover(dense, inputs(3))
    event(structure.form)
    assert structure.groups, [way.__name__ for way, _, _ in ways]
    kept = kept_units(structure, share, seed)
    small, zeros = structure.cut(dense, kept).eval(), with_zeros(chain(ways), structure.plan(dense, kept).kept)
    for samples in (3, 1, 5):
        with torch.no_grad():
            close(small(inputs(samples)), zeros(inputs(samples)))
            close(structure.masked(dense, kept)(inputs(samples)), zeros(inputs(samples)))
    cut = {g.name: g.units - len(kept[g.name]) for g in structure.groups}
    assert structure.costs(cut).params == sum(p.numel() for p in small.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_way_lets_its_units_go(way: Way) -> None:
    structure = discover(chain([(way, 8, False)]), inputs(3))
    units = {layer for group in structure.groups for layer in group.layers}
    assert "into.0" in units, structure.uncut
