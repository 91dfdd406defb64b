"""Steps of random nets on maps (N, C, *space); norms and activations are for any kind of activation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .random_program import Form, Kind, Step, chain, step

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOLS: dict[str, dict[int, Any]] = {
    "max": {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d},
    "avg": {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d},
}
LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
ACTIVATIONS: dict[str, Any] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "silu": F.silu,
    "elu": F.elu,
    "leaky-relu": lambda x: F.leaky_relu(x, 0.1),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "mish": F.mish,
    "selu": F.selu,
    "log-sigmoid": F.logsigmoid,
    "cos": torch.cos,
    "square": lambda x: 0.3 * x * x,
    "shifted": lambda x: 1 - x.clamp(-1, 2) / 2,
    "masked": lambda x: torch.where(x > 0, x, 0.2),
    "dropout": lambda x: F.dropout(x, 0.1, training=False),
}


class HandNorm(nn.Module):
    """RMS norm or layer norm written by hand over dimension ``dim``."""

    def __init__(self, width: int, *, dim: int, centered: bool) -> None:
        super().__init__()
        self.dim, self.centered = dim, centered
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.centered:
            x = x - x.mean(self.dim, keepdim=True)
        x = x * torch.rsqrt(x.pow(2).mean(self.dim, keepdim=True) + 1e-5)
        shape = [-1] + [1] * (x.ndim - 1 - self.dim % x.ndim)
        return x * self.weight.view(shape) + self.bias.view(shape)


@step
class Conv(Step):
    out: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = True
    padding: str = "zeros"

    def make(self, m: Any, form: Form) -> None:
        conv = CONVOLUTIONS[len(form.space)]
        m.conv = conv(
            form.width, self.out, self.kernel, self.stride, self.kernel // 2, 1, self.groups, self.bias, self.padding
        )

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.conv(x)


@step
class TransposedConv(Step):
    out: int
    groups: int = 1
    bias: bool = True

    def make(self, m: Any, form: Form) -> None:
        m.conv = TRANSPOSED[len(form.space)](form.width, self.out, 2, 2, 0, 0, self.groups, self.bias)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.conv(x)


@step
class EinsumConv(Step):
    """A convolution over single positions, by einsum."""

    out: int

    def make(self, m: Any, form: Form) -> None:
        m.weight = nn.Parameter(torch.zeros(self.out, form.width))
        m.equation = "nc{0},oc->no{0}".format("xyz"[: len(form.space)])

    def run(self, m: Any, x: Tensor) -> Tensor:
        return torch.einsum(m.equation, x, m.weight)


@step
class Norm(Step):
    """``batch``, ``instance``, ``group``, ``layer``, ``rms``, ``hand-rms``, ``hand-layer``."""

    name: str
    groups: int = 1
    affine: bool = True

    def make(self, m: Any, form: Form) -> None:
        width, space = form.width, len(form.space)
        match self.name:
            case "batch":
                m.norm = BATCH_NORMS[space](width, affine=self.affine)
            case "instance":
                m.norm = INSTANCE_NORMS[space](width, affine=self.affine)
            case "group":
                m.norm = nn.GroupNorm(self.groups, width, affine=self.affine)
            case "layer":
                m.norm = nn.LayerNorm(width, elementwise_affine=self.affine)
            case "rms":
                m.norm = nn.RMSNorm(width, elementwise_affine=self.affine)
            case _:
                m.norm = HandNorm(width, dim=form.dim, centered=self.name == "hand-layer")
        m.moves = (form.dim == 1 and self.name in ("layer", "rms")) or (
            form.dim == -1 and self.name in ("batch", "instance")
        )

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.norm(x.movedim(1, -1)).movedim(-1, 1) if m.moves else m.norm(x)


@step
class Activate(Step):
    name: str

    def run(self, m: Any, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.name](x)


@step
class PRelu(Step):
    """One slope, or one for each channel."""

    per_channel: bool

    def make(self, m: Any, form: Form) -> None:
        m.act = nn.PReLU(form.width if self.per_channel else 1)

    def run(self, m: Any, x: Tensor) -> Tensor:
        return m.act(x)


@step
class Pool(Step):
    name: str

    def run(self, m: Any, x: Tensor) -> Tensor:
        return POOLS[self.name][x.ndim - 2](x, 2)


@step
class Resize(Step):
    mode: str
    by_size: bool = False

    def run(self, m: Any, x: Tensor) -> Tensor:
        mode = "nearest" if self.mode == "nearest" else LINEAR_MODES[x.ndim - 2]
        if self.by_size:
            return F.interpolate(x, size=[2 * size for size in x.shape[2:]], mode=mode)
        return F.interpolate(x, scale_factor=2, mode=mode)


@step
class PixelShuffle(Step):
    """Channels to space, or back."""

    up: bool

    def run(self, m: Any, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2) if self.up else F.pixel_unshuffle(x, 2)


@step
class ChannelShuffle(Step):
    groups: int
    by_hand: bool

    def run(self, m: Any, x: Tensor) -> Tensor:
        if not self.by_hand:
            return F.channel_shuffle(x, self.groups)
        return x.view(len(x), self.groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


@step
class SqueezeExcite(Step):
    """Channels scaled by a gate from their means; by linear layers or convolutions."""

    hidden: int
    linear: bool
    gate: str = "sigmoid"

    def make(self, m: Any, form: Form) -> None:
        layer = nn.Linear if self.linear else (lambda i, o: CONVOLUTIONS[len(form.space)](i, o, 1))
        m.reduce, m.expand = layer(form.width, self.hidden), layer(self.hidden, form.width)

    def run(self, m: Any, x: Tensor) -> Tensor:
        over = tuple(range(2, x.ndim))
        s = m.expand(F.relu(m.reduce(x.mean(over, keepdim=not self.linear))))
        return x * ACTIVATIONS[self.gate](s.view(*s.shape[:2], *[1] * (x.ndim - 2)))


@step
class SpatialGate(Step):
    """All channels scaled by one map: of their mean and maximum (CBAM), or made by a convolution."""

    of_means: bool

    def make(self, m: Any, form: Form) -> None:
        m.map = CONVOLUTIONS[len(form.space)](2 if self.of_means else form.width, 1, 3, padding=1)

    def run(self, m: Any, x: Tensor) -> Tensor:
        y = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1) if self.of_means else x
        return x * torch.sigmoid(m.map(y))


@step
class FixedSlice(Step):
    """Positions, not channels, moved by numbers in the code: flipped, rolled, cropped, padded."""

    name: str

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.name:
            case "flip":
                return x.flip(-1)
            case "roll":
                return x.roll(1, -1)
            case "crop":
                return x[..., 1:]
            case "every-other":
                return x[..., ::2]
            case "pad":
                return F.pad(x, (1, 0))
            case _:
                return F.pad(x, (1, 1) + (0, 0) * (x.ndim - 3), mode=self.name)


@step
class ToSequence(Step):
    """(N, C, *space) to (N, positions, C)."""

    def run(self, m: Any, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def makes(self, form: Form) -> Kind:
        return "sequence"


@step
class ToVector(Step):
    """Means, maxima or all entries of a map; ``view`` has the number of entries in the code."""

    name: str

    def make(self, m: Any, form: Form) -> None:
        m.entries = torch.Size(form.shape).numel()

    def run(self, m: Any, x: Tensor) -> Tensor:
        match self.name:
            case "mean":
                return x.mean(tuple(range(2, x.ndim)))
            case "max":
                return x.amax(tuple(range(2, x.ndim)))
            case "flatten":
                return x.flatten(1)
            case "view":
                return x.contiguous().view(-1, m.entries)
            case _:
                return x.reshape(len(x), -1)

    def makes(self, form: Form) -> Kind:
        return "vector"


@step
class Window(Step):
    """Squares of 2 × 2 pixels as sequences (Swin): partition, the body on each window, and back."""

    body: tuple[Step, ...]

    def make(self, m: Any, form: Form) -> None:
        m.body = chain(self.body, Form("sequence", (4, form.width)))

    def run(self, m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
        x = m.body(x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c))
        x = x.view(n, h // 2, w // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(n, h, w, -1).permute(0, 3, 1, 2)
