"""Nets of one operator each, between layers whose units it couples or leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Make = Callable[[], nn.Module]


class Net(nn.Module):
    """Runs a plain function of itself and its inputs."""

    def __init__(self, way: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.way = way
        for name, part in parts.items():
            setattr(self, name, part() if callable(part) else part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.way(self, *inputs)


@dataclass(frozen=True)
class OperatorCase:
    """A net, and what can be cut of it."""

    way: Callable[..., Any]
    parts: dict[str, Any]
    inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    cut: dict[str, int]
    """Groups and their units."""
    form: str

    def net(self, seed: int = 0) -> Net:
        torch.manual_seed(seed)
        return Net(self.way, **self.parts).eval()

    def example(self, samples: int, seed: int = 0) -> tuple[Tensor, ...]:
        return self.inputs(samples, torch.Generator().manual_seed(seed))


CASES: dict[str, OperatorCase] = {}


def rows(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 8, generator=g),)


def steps(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 5, 6, generator=g),)


def images(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 3, 8, 8, generator=g),)


def tokens(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randint(0, 30, (n, 6), generator=g),)


def weighted(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    return *tokens(n, g), torch.randn(n, 6, generator=g)


def graphs(n: int, g: torch.Generator) -> tuple[Tensor, ...]:
    """Six nodes of eight numbers, and nine edges from one to another."""
    return torch.randn(n, 6, 8, generator=g), *(torch.randint(0, 6, (n, 9), generator=g) for _ in range(2))


def case(
    cut: dict[str, int], inputs: Callable[..., tuple[Tensor, ...]] = rows, form: str = "modules", **parts: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the net of its own name."""

    def enter(way: Callable[..., Any]) -> Callable[..., Any]:
        CASES[way.__name__.replace("_", "-")] = OperatorCase(way, parts, inputs, cut, form)
        return way

    return enter


def linear(i: int, o: int, **options: Any) -> Make:
    return lambda: nn.Linear(i, o, **options)


def convolution(i: int, o: int) -> Make:
    return lambda: nn.Conv2d(i, o, 3, padding=1)


def parameter(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(0.3 * torch.randn(*shape))


# Constants made in the shape of something.


@case({"i": 16}, i=linear(8, 16), x=linear(16, 16), y=linear(16, 16), o=linear(16, 4))
def sum_from_zeros_like(m, x):
    x = F.relu(m.i(x))
    total = torch.zeros_like(x)
    for expert in (m.x, m.y):
        total = total + F.relu(expert(x))
    return m.o(total)


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def ones_like(m, x):
    x = F.relu(m.i(x))
    return m.o(torch.ones_like(x) * 0.5 - x)


@case({"i": 16}, i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def where_full_like(m, x):
    x = m.i(x)
    return m.o(torch.where(m.a(x) > 0, x, torch.full_like(x, -0.3)))


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def copied_into_empty_like(m, x):
    x = m.i(x)
    return m.o(torch.empty_like(x).copy_(x.relu()))


@case({"i": 16}, i=linear(8, 16), o=linear(16, 4))
def no_noise(m, x):
    x = m.i(x)
    return m.o(x + 0 * torch.rand_like(x))


@case({"i": 16, "a": 16}, form="graph", i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def new_zeros_of_a_shape(m, x):
    x = m.i(x)
    return m.o(x.new_zeros(x.shape) + m.a(x).relu())


@case({"i": 16, "a": 16}, form="graph", i=linear(8, 16), a=linear(16, 16), o=linear(16, 4))
def new_full_of_a_number(m, x):
    x = m.i(x)
    return m.o(x.new_full((len(x), 16), 0.5) * m.a(x).relu())


@case({"i": 16, "a": 16}, i=linear(8, 16), a=linear(16, 16), o=linear(16, 4), width=16)
def zeros_of_an_attribute(m, x):
    x = m.i(x)
    total = torch.zeros(len(x), m.width)
    total += m.a(x).relu()
    return m.o(total)


@case({"i": 16}, form="graph", i=linear(8, 16), b=parameter(16), o=linear(16, 4))
def ones_times_a_parameter(m, x):
    return m.o(m.i(x) + torch.ones(len(x), 16) * m.b)


@case({"i": 16}, form="graph", i=linear(8, 16), a=linear(8, 16), o=linear(16, 4))
def written_into_zeros(m, x):
    made = torch.zeros(len(x), 2, 16)
    made[:, 0] = m.i(x)
    made[:, 1] = m.a(x)
    return m.o(made.tanh())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def expanded_as_another(m, x):
    y = m.i(x)
    return m.o(y.masked_fill((x[..., :1] > 0).expand_as(y), 0.5))


@case({"i": 16}, steps, "graph", i=linear(6, 16), o=linear(16, 4))
def expanded_to_a_number(m, x):
    return m.o(m.i(x) * x[..., :1].expand(-1, -1, 16))


@case({"i": 16}, steps, "graph", i=linear(6, 16), o=linear(16, 4))
def repeated(m, x):
    return m.o(m.i(x) * x[..., :1].repeat(1, 1, 16))


@case({"i": 16}, steps, "graph", i=linear(6, 16), u=parameter(16, 16), o=linear(16, 4))
def recurrent_by_hand(m, x):
    h = torch.zeros(len(x), 16)
    for t in range(3):
        h = torch.tanh(m.i(x[:, t]) + h @ m.u)
    return m.o(h)


@case({"i": 16}, steps, i=linear(6, 16), u=parameter(16, 16), h=parameter(1, 16), o=linear(16, 4))
def learned_first_state(m, x):
    h = m.h.expand(len(x), -1)
    for t in range(3):
        h = torch.tanh(m.i(x[:, t]) + h @ m.u)
    return m.o(h)


# Cells.


@case({"i": 12, "c": 16}, steps, i=linear(6, 12), c=lambda: nn.GRUCell(12, 16), o=linear(16, 3))
def gru_cell(m, x):
    h = None
    for t in range(4):
        h = m.c(F.relu(m.i(x[:, t])), h)
    return m.o(h)


@case({"c": 16}, steps, c=lambda: nn.LSTMCell(6, 16), o=linear(16, 3))
def lstm_cell(m, x):
    state = None
    for t in range(4):
        state = m.c(x[:, t], state)
    return m.o(state[0] + state[1])


@case({"c": 16}, steps, c=lambda: nn.RNNCell(6, 16), o=linear(16, 3))
def tanh_cell(m, x):
    h, made = None, []
    for t in range(4):
        h = m.c(x[:, t], h)
        made.append(h)
    return m.o(torch.stack(made, 1))


@case({"c": 16}, steps, c=lambda: nn.RNNCell(6, 16, bias=False, nonlinearity="relu"), o=linear(16, 3))
def relu_cell(m, x):
    h = x.new_zeros(len(x), m.c.hidden_size)
    for t in range(4):
        h = m.c(x[:, t], h)
    return m.o(h)


@case(
    {"c": 16, "d": 10}, steps, "graph",
    c=lambda: nn.GRUCell(6, 16), d=lambda: nn.LSTMCell(16, 10, bias=False), o=linear(10, 3),
)  # fmt: skip
def cells_on_each_other(m, x):
    h, k, c = torch.zeros(len(x), 16), x.new_zeros(len(x), 10), x.new_zeros(len(x), 10)
    for t in range(3):
        h = m.c(x[:, t], h)
        k, c = m.d(h, (k, c))
    return m.o(k)


@case({"e": 16}, steps, e=lambda: nn.GRU(6, 16, batch_first=True), c=lambda: nn.LSTMCell(6, 16), o=linear(16, 3))
def encoder_and_cell(m, x):
    h = m.e(x)[1][0]
    return m.o(m.c(x[:, 0], (h, torch.zeros_like(h)))[0])


@case({"c": 16}, steps, "graph", c=lambda: nn.GRUCell(6, 16), h=parameter(16), o=linear(16, 3))
def cell_from_a_parameter(m, x):
    h = m.h.expand(len(x), 16)
    for t in range(3):
        h = m.c(x[:, t], h)
    return m.o(h)


@case({"g": 10}, images, g=convolution(13, 40), o=convolution(10, 2))
def convolutional_lstm(m, x):
    h = c = x.new_zeros(len(x), m.o.in_channels, 8, 8)
    for _ in range(2):
        i, f, o, g = m.g(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return m.o(h)


# Bags.


@case({"e": 16, "a": 24}, tokens, e=lambda: nn.EmbeddingBag(30, 16), a=linear(16, 24), o=linear(24, 4))
def bag_mean(m, x):
    return m.o(F.relu(m.a(m.e(x))))


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16, mode="max"), o=linear(16, 4))
def bag_max(m, x):
    return m.o(m.e(x).tanh())


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16, mode="sum", padding_idx=0), o=linear(16, 4))
def bag_padded(m, x):
    return m.o(m.e(x).tanh())


@case({"e": 16}, weighted, e=lambda: nn.EmbeddingBag(30, 16, mode="sum"), w=linear(6, 6), o=linear(16, 4))
def bag_weighted(m, x, weights):
    return m.o(m.e(x, per_sample_weights=m.w(weights)))


@case({"e": 16}, tokens, e=lambda: nn.EmbeddingBag(30, 16), f=lambda: nn.EmbeddingBag(30, 16), o=linear(4, 4))
def bags_that_interact(m, x):
    both = torch.stack([m.e(x), m.f(x)], 1)
    return m.o((both @ both.transpose(1, 2)).flatten(1))


# Places.


@case({"i": 16}, graphs, i=linear(8, 16), m=linear(16, 16), o=linear(16, 4))
def messages(m, x, start, end):
    x = m.i(x)
    sent = m.m(x.gather(1, start[..., None].expand(-1, -1, x.shape[-1]))).relu()
    return m.o(torch.zeros_like(x).scatter_add(1, end[..., None].expand_as(sent), sent))


@case({"i": 16, "m": 12}, graphs, "graph", i=linear(8, 16), m=linear(16, 12), o=linear(12, 4))
def messages_by_numbers(m, x, start, end):
    sent = m.m(m.i(x).gather(1, start[..., None].expand(-1, -1, 16))).relu()
    return m.o(torch.zeros(len(x), 6, 12).scatter_add_(1, end[..., None].expand(-1, -1, 12), sent))


@case({"i": 16}, graphs, i=linear(8, 16), o=linear(16, 4))
def greatest_message(m, x, start, end):
    x = m.i(x).relu()
    return m.o(torch.zeros_like(x).scatter_reduce(1, end[:, :6, None].expand_as(x), x, "amax"))


@case({"i": 16}, graphs, i=linear(8, 16), o=linear(16, 4))
def taken_along(m, x, start, end):
    return m.o(m.i(x).take_along_dim(start[..., None], 1).relu())


@case({"i": 16, "m": 16}, steps, i=linear(6, 16), m=linear(16, 16), o=linear(16, 4))
def index_add(m, x):
    sent = m.m(m.i(x)[:, :2])
    return m.o(torch.zeros(len(x), 3, sent.shape[-1]).index_add_(1, torch.tensor([2, 0]), sent).tanh())


@case({"i": 16}, steps, i=linear(6, 16), m=linear(6, 16), o=linear(16, 4))
def index_copy(m, x):
    return m.o(m.i(x).index_copy(1, torch.tensor([0, 3]), m.m(x[:, :2])).relu())


@case({"i": 16}, steps, i=linear(6, 16), m=linear(6, 16), o=linear(16, 4))
def index_put(m, x):
    y = m.i(x)
    z = torch.zeros_like(y)
    z[:, [1, 4]] = m.m(x)[:, :2]
    return m.o((y + z).relu())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def mask_of_entries(m, x):
    y = m.i(x).clone()
    y[y > 0.5] = 0.5
    return m.o(y)


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def mask_of_rows(m, x):
    y = m.i(x).clone()
    y[x[..., 0] > 0.5] = 0.1
    return m.o(y)


@case({}, rows, i=linear(8, 16), o=linear(6, 4))
def part_of_the_units(m, x):
    """The places are for fewer entries than there are units: the first of them."""
    x = m.i(x)
    return m.o(x.gather(0, torch.zeros(len(x), 6, dtype=torch.int64)))


@case({}, rows, i=linear(8, 16), o=linear(16, 4))
def along_the_units(m, x):
    x = m.i(x)
    return m.o(x.scatter_add(1, torch.ones(len(x), 16, dtype=torch.int64), x))


@case({"c": 8, "d": 12}, images, c=convolution(3, 8), d=convolution(8, 12), e=convolution(12, 8), o=convolution(8, 2))
def unpooled(m, x):
    y, places = F.max_pool2d(m.c(x).relu(), 2, return_indices=True)
    return m.o(F.max_unpool2d(m.e(m.d(y).relu()), places, 2))


@case({"c": 8}, images, c=convolution(3, 8), f=convolution(8, 2), o=convolution(8, 2))
def deformed(m, x):
    x = m.c(x).relu()
    return m.o(F.grid_sample(x, m.f(x).permute(0, 2, 3, 1).tanh(), align_corners=False))


# Products.


@case({"i": 16}, i=linear(8, 16), v=parameter(16))
def matrix_times_vector(m, x):
    return torch.mv(m.i(x).relu(), m.v)


@case({"i": 16}, steps, i=linear(6, 16), v=parameter(16))
def batch_times_vector(m, x):
    return m.i(x).relu() @ m.v


@case({"a": 16}, a=parameter(16, 8), b=parameter(16))
def dot_of_parameters(m, x):
    return x[:, 0] * torch.dot((m.a @ torch.ones(8)).tanh(), m.b)


@case({"i": 16}, i=linear(8, 16), a=linear(8, 16))
def vector_dots(m, x):
    return torch.linalg.vecdot(m.i(x).relu(), m.a(x).tanh())


@case({"i": 16}, i=linear(8, 16), a=linear(8, 16))
def cosines(m, x):
    return F.cosine_similarity(m.i(x), m.a(x).tanh())


@case({"i": 16}, steps, i=linear(6, 16), w=parameter(16, 5))
def tensor_product(m, x):
    return torch.tensordot(m.i(x).relu(), m.w, dims=([2], [0]))


@case({"i": 12}, steps, i=linear(6, 12), c=parameter(20, 12), o=linear(12, 3))
def nearest_in_a_codebook(m, x):
    x = m.i(x)
    nearest = torch.cdist(x, m.c.expand(len(x), -1, -1)).argmin(-1)
    return m.o(m.c[nearest] + x)


@case({"a": 12, "b": 10, "p": 14}, a=linear(8, 12), b=linear(8, 10), p=lambda: nn.Bilinear(12, 10, 14), o=linear(14, 4))
def bilinear(m, x):
    return m.o(m.p(m.a(x).relu(), m.b(x).tanh()).relu())


@case({"a": 12, "p": 14}, steps, a=linear(6, 12), p=lambda: nn.Bilinear(12, 12, 14, bias=False), o=linear(14, 4))
def bilinear_of_steps(m, x):
    y = m.a(x)
    return m.o(m.p(y.relu(), y.tanh()).relu())


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def running_along_steps(m, x):
    y = m.i(x)
    return m.o(y.cumsum(1) + y.logcumsumexp(1) + y.cummax(1).values)


# Experts.


@case({"w": 16}, r=linear(8, 3), w=parameter(3, 8, 16), v=parameter(3, 16, 4))
def stacked_experts(m, x):
    made = torch.einsum("neh,eho->neo", torch.einsum("nd,edh->neh", x, m.w).relu(), m.v)
    return torch.einsum("neo,ne->no", made, m.r(x).softmax(-1))


@case(
    {"i": 12, "w": 16},
    i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), b=parameter(3, 16), v=parameter(3, 16, 12),
    o=linear(12, 4),
)  # fmt: skip
def stacked_experts_in_a_stream(m, x):
    x = m.i(x).relu()
    hidden = F.gelu(torch.einsum("nd,edh->neh", x, m.w) + m.b)
    made = torch.einsum("neh,ehd->ned", hidden, m.v)
    return m.o(x + (made * m.r(x).softmax(-1)[..., None]).sum(1))


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), v=parameter(3, 16, 12))
def experts_by_bmm(m, x):
    x = m.i(x).relu()
    made = torch.bmm(torch.bmm(x.expand(3, -1, -1), m.w).relu(), m.v)
    return ((x + made) * m.r(x).softmax(-1).t()[..., None]).sum((0, 2))


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 16), v=parameter(3, 16, 4))
def best_expert_alone(m, x):
    x = m.i(x).relu()
    weight, expert = m.r(x).softmax(-1).max(-1)
    hidden = torch.bmm(x[:, None], m.w.index_select(0, expert)).relu()
    return torch.bmm(hidden, m.v[expert])[:, 0] * weight[:, None]


@case({"i": 12, "w": 16}, i=linear(8, 12), r=linear(12, 3), w=parameter(3, 12, 32), v=parameter(3, 16, 4))
def gated_experts(m, x):
    x = m.i(x)
    gate, value = torch.matmul(x, m.w).chunk(2, -1)
    return (torch.matmul(F.silu(gate) * value, m.v) * m.r(x).softmax(-1).t()[..., None]).sum(0)


def expert() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 12))


LISTED = {"i": 12, "x.0": 16, "y.0": 16}


@case(LISTED, i=linear(8, 12), r=linear(12, 2), x=expert, y=expert, o=linear(12, 4))
def listed_experts(m, x):
    x = m.i(x)
    shares = m.r(x).softmax(-1)
    shares = shares * (shares >= shares.topk(1).values)
    total = torch.zeros_like(x)
    for n, each in enumerate((m.x, m.y)):
        total += each(x) * shares[:, n : n + 1]
    return m.o(x + total)


@case(LISTED, i=linear(8, 12), r=linear(12, 2), x=expert, y=expert, o=linear(12, 4))
def listed_experts_gathered(m, x):
    x = m.i(x)
    weights, chosen = m.r(x).softmax(-1).topk(1)
    made = torch.stack([m.x(x) + x, m.y(x) + x], 1)
    made = made.gather(1, chosen[..., None].expand(-1, -1, made.shape[-1]))
    return m.o((made * weights[..., None]).sum(1))


# Units along two dimensions: tokens are mixed, for each channel alike.


@case({"i": 12, "a": 10}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), o=linear(12, 4))
def mixed_tokens(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x.transpose(1, 2)))).transpose(1, 2))


@case(
    {"i": 12, "a": 10, "c": 20}, steps,
    i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), s=parameter(12), c=linear(12, 20), d=linear(20, 12),
    o=linear(12, 4),
)  # fmt: skip
def mixed_tokens_and_channels(m, x):
    x = m.i(x)
    x = x + (m.b(F.silu(m.a((x * m.s).mT))) * m.s[:, None]).mT
    x = x + m.d(F.gelu(m.c(x)))
    return m.o(x.mean(1))


@case(
    {"i": 12, "a": 10}, steps,
    i=linear(6, 12), a=lambda: nn.Conv1d(5, 10, 1), b=lambda: nn.Conv1d(10, 5, 1), o=linear(12, 4),
)  # fmt: skip
def mixed_by_convolutions(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x))))


@case({"i": 12, "a": 10}, steps, i=linear(6, 12), a=parameter(5, 10), b=parameter(10, 5), o=linear(12, 4))
def mixed_by_einsum(m, x):
    x = m.i(x)
    return m.o(x + torch.einsum("nhd,ht->ntd", torch.einsum("ntd,th->nhd", x, m.a).relu(), m.b))


@case({"i": 6}, steps, i=linear(6, 12), a=linear(5, 5), o=linear(6, 4))
def gated_by_other_tokens(m, x):
    u, v = m.i(x).chunk(2, -1)
    return m.o(u * m.a(v.mT).mT)


@case(
    {"a": 10}, steps,
    i=linear(6, 12), a=lambda: nn.Conv1d(5, 10, 3, padding=1), b=lambda: nn.Conv1d(10, 5, 3, padding=1),
    o=linear(12, 4),
)  # fmt: skip
def mixed_with_neighbours(m, x):
    x = m.i(x)
    return m.o(x + m.b(F.gelu(m.a(x))))


@case({"i": 12}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(10, 5), o=linear(12, 4))
def mixed_and_normed(m, x):
    return m.o(m.b(m.a(m.i(x).mT).softmax(-1)).mT)


@case({"i": 12}, steps, i=linear(6, 12), a=linear(5, 10), b=linear(20, 5), o=linear(12, 4))
def mixed_and_joined(m, x):
    """What does not know units along two dimensions leaves those that came first."""
    y = m.a(m.i(x).mT)
    return m.o(m.b(torch.cat([y, y.relu()], -1)).mT)


@case({"q": 12, "v": 10}, steps, q=linear(6, 12), k=linear(6, 12), v=linear(6, 10), o=linear(10, 4))
def product_of_products(m, x):
    return m.o(m.q(x) @ (m.k(x).mT @ m.v(x)))


# Attention with a bias for every head.


def attended(m: Any, x: Tensor, bias: Tensor) -> Tensor:
    n, t, _ = x.shape
    q, k, v = (layer(x).view(n, t, -1, 3).transpose(1, 2) for layer in (m.q, m.k, m.v))
    weights = (q @ k.transpose(-1, -2) * 3**-0.5 + bias).softmax(-1)
    return m.o((weights @ v).transpose(1, 2).reshape(n, t, -1))


def distances(t: int) -> Tensor:
    return -(torch.arange(t)[:, None] - torch.arange(t)).abs().float()


QKVO = {"q": linear(6, 12), "k": linear(6, 12), "v": linear(6, 12), "o": linear(12, 4)}
SLOPES = (0.5, 0.25, 0.125, 0.0625)


@case({"q": 4}, steps, z=lambda: nn.Buffer(torch.tensor(SLOPES).view(4, 1, 1)), **QKVO)
def slopes_in_a_buffer(m, x):
    return attended(m, x, m.z * distances(5))


@case({"q": 4}, steps, z=parameter(4, 1, 1), **QKVO)
def learned_slopes(m, x):
    return attended(m, x, m.z * distances(5))


@case({}, steps, **QKVO)
def slopes_in_the_code(m, x):
    return attended(m, x, torch.tensor(SLOPES).view(4, 1, 1) * distances(5))


@case({"q": 4}, steps, z=lambda: nn.Buffer(torch.tensor(SLOPES).view(4, 1, 1)), **QKVO)
def slopes_in_a_mask(m, x):
    n, t, _ = x.shape
    q, k, v = (layer(x).view(n, t, -1, 3).transpose(1, 2) for layer in (m.q, m.k, m.v))
    bias = (m.z * distances(5)).expand(n, -1, -1, -1)
    return m.o(F.scaled_dot_product_attention(q, k, v, bias, scale=0.5).transpose(1, 2).reshape(n, t, -1))
