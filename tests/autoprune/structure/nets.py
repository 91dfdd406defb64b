"""Small nets, one for every way in which units get coupled. Inputs are (N, 3, 16, 16) unless a net says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.structure import Structure, discover

from .sequence_nets import (
    Attention,
    DecoderLayers,
    Encoder,
    EncoderLayers,
    GroupedQuery,
    OneHead,
    PackedAttention,
    Projected,
    Recurrent,
    SplitAttention,
)


def cbr(i: int, o: int, k: int = 3, *, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
    )


class Head(nn.Module):
    def __init__(self, width: int, classes: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class Vgg(nn.Module):
    """A flatten with spatial extent into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(cbr(3, 8), nn.MaxPool2d(2), cbr(8, 12), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(12 * 16, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 10), nn.BatchNorm1d(10), nn.Linear(10, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Residual(nn.Module):
    """Projection shortcut, identity shortcut, pre-activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.a, self.b = cbr(8, 12, stride=2), nn.Conv2d(12, 16, 3, padding=1)
        self.short = nn.Conv2d(8, 16, 1, stride=2)
        self.c, self.d = cbr(16, 10), cbr(10, 16)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.relu(self.norm(x))
        x = self.short(y) + self.b(self.a(y))
        x = x + self.d(self.c(x))
        return self.head(x)


class OptionA(nn.Module):
    """The zero-padded shortcut of He et al. (arXiv:1512.03385)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = cbr(3, 8), cbr(8, 8), cbr(8, 16, stride=2)
        self.c = cbr(16, 16)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.a(x)
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + self.b(x)
        return self.head(F.relu(x) + self.c(x))


class SqueezeExcite(nn.Module):
    """Inverted residual with depthwise convolution and a gate, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 8)
        self.expand, self.depthwise = cbr(8, 24, 1), cbr(24, 24, groups=24)
        self.reduce, self.gate = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        s = F.adaptive_avg_pool2d(y, 1)
        y = y * torch.sigmoid(self.gate(F.silu(self.reduce(s))))
        return self.head(x + self.project(y))


class LinearGate(nn.Module):
    """A gate made by linear layers on flattened means (SENet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 12)
        self.fc1, self.fc2 = nn.Linear(12, 4), nn.Linear(4, 12)
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, _, _ = x.shape
        s = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return self.head(x * torch.sigmoid(self.fc2(F.relu(self.fc1(s)))).view(b, c, 1, 1))


class Dense(nn.Module):
    """Concatenation of everything before (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), nn.Conv2d(6 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 8, 1), nn.AvgPool2d(2))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.head(self.transition(torch.cat(features, 1)))


class UNet(nn.Module):
    """Transposed convolution, skip concatenation, upsampling; the output is an image."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = cbr(3, 6), cbr(6, 10), cbr(10, 12)
        self.up = nn.ConvTranspose2d(12, 10, 2, stride=2)
        self.mid, self.last = cbr(20, 8), cbr(8 + 6, 7)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        y = self.mid(torch.cat([self.up(c), b], 1))
        y = F.interpolate(y, scale_factor=2, mode="bilinear")
        return self.out(self.last(torch.cat([y, a], 1)))


class Inception(nn.Module):
    """Branches of different widths, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 8)
        self.a, self.b, self.c = cbr(8, 5, 1), nn.Sequential(cbr(8, 4, 1), cbr(4, 6)), cbr(8, 3, 1)
        self.head = Head(14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([self.a(x), self.b(x), self.c(F.avg_pool2d(x, 3, 1, 1))], 1))


class ResNeXt(nn.Module):
    """Grouped convolution: many narrow groups, and a few wide ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 16)
        self.narrow = nn.Sequential(cbr(16, 32, 1), cbr(32, 32, groups=8), cbr(32, 16, 1))
        self.wide = nn.Sequential(cbr(16, 24, 1), cbr(24, 24, groups=2), cbr(24, 16, 1))
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.narrow(x)
        return self.head(x + self.wide(x))


class Shuffle(nn.Module):
    """Channel shuffle between grouped convolutions (ShuffleNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = cbr(3, 16), cbr(16, 24, 1, groups=2), cbr(24, 24, groups=24)
        self.c = cbr(24, 16, 1, groups=2)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.stem(x))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.c(self.b(y)))


class SplitHalves(nn.Module):
    """Channel split: one half goes on, the other is worked on (CSP, ShuffleNetV2), and a gated linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = cbr(3, 16), cbr(8, 8)
        self.gated = nn.Conv2d(16, 20, 1)
        self.head = Head(10)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([left, self.a(right)], 1)
        return self.head(F.glu(self.gated(x), 1))


class SliceHalves(nn.Module):
    """The same by slicing with computed bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = cbr(3, 16), cbr(8, 8)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        half = x.shape[1] // 2
        return self.head(self.a(x[:, :half]) * x[:, half:])


class GroupNorms(nn.Module):
    """Group norm with many groups, with few, with one; instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n1 = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(8, 16)
        self.b, self.n2 = nn.Conv2d(16, 24, 3, padding=1), nn.GroupNorm(2, 24)
        self.c, self.n3 = nn.Conv2d(24, 12, 3, padding=1), nn.GroupNorm(1, 12)
        self.d, self.n4 = nn.Conv2d(12, 10, 3, padding=1), nn.InstanceNorm2d(10, affine=True)
        self.head = Head(10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.a, self.n1), (self.b, self.n2), (self.c, self.n3), (self.d, self.n4)):
            x = F.gelu(norm(conv(x)))
        return self.head(x)


class ConvNeXt(nn.Module):
    """Depthwise convolution, channels-last layer norm and linear layers, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 30), nn.Linear(30, 12)
        self.gamma = nn.Parameter(torch.rand(12))
        self.last = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.gamma * self.down(F.gelu(self.up(self.norm(y))))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(self.last(x.mean([-2, -1])))


class PixelShuffle(nn.Module):
    """Sub-pixel upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = cbr(3, 8), nn.Conv2d(8, 24, 3, padding=1)
        self.up, self.out = nn.PixelShuffle(2), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.up(self.b(self.a(x))))) + F.interpolate(x, scale_factor=2)


class TransposedGroups(nn.Module):
    """Grouped and depthwise transposed convolutions, reflection padding, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act = nn.Conv2d(3, 12, 3), nn.PReLU(12)
        self.b = nn.ConvTranspose2d(12, 12, 2, 2, groups=12)
        self.c = nn.ConvTranspose2d(12, 8, 2, 2, groups=2)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.a(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return self.head(F.elu(self.c(F.hardswish(self.b(x)))))


class SpatialAttention(nn.Module):
    """One map that scales all channels: its single channel stays, the others go on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.map = cbr(3, 12), nn.Conv2d(12, 1, 1)
        self.scale = nn.Parameter(torch.rand(1))
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x * torch.sigmoid(self.map(x)) * self.scale + 0.5)


class Shared(nn.Module):
    """One convolution used twice, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = cbr(3, 8), cbr(8, 8)
        self.one, self.two = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.two.weight = self.one.weight
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.stem(x)))
        return self.head(self.one(x) + self.two(x.flip(1)[:, :].flip(1)))


class Registered(nn.Module):
    """One module registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cbr(3, 8)
        self.first = cbr(8, 8)
        self.again = self.first
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.first(self.stem(x))))


class FixedView(nn.Module):
    """A size written into the code: what it names must stay, the rest can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = cbr(3, 10), cbr(10, 8)
        self.linear = nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.max_pool2d(self.b(self.a(x)), 4).view(-1, 8 * 16))


class Unknown(nn.Module):
    """An operator without a rule: what it touches stays, the rest can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = cbr(3, 10), cbr(10, 8), cbr(8, 6)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.head(self.c(x.renorm(2, 1, 1.0)))


class Conv1d(nn.Module):
    """(N, 2, 40) audio."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv1d(2, 10, 5), nn.BatchNorm1d(10), nn.Conv1d(10, 8, 3, dilation=2)
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.max_pool1d(self.b(F.leaky_relu(self.n(self.a(x)))), 2).amax(-1))


class Conv3d(nn.Module):
    """(N, 1, 6, 8, 8) video."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.Conv3d(6, 8, 3)
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool3d(self.b(F.relu(self.n(self.a(x)))), 1).flatten(1))


class TwoInputs(nn.Module):
    """Images (N, 3, 16, 16) and vectors (N, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = cbr(3, 8), nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 8))
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        x, v = self.image(x).mean((2, 3)), self.vector(v)
        return self.linear(torch.cat([x * v, v], 1))


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    cut: dict[str, int]
    """Units of each group that must be offered, by the group's name."""
    inputs: tuple[tuple[int, ...], ...] = ((3, 16, 16),)
    tokens: int | None = None
    """Size of the vocabulary, for nets that read tokens."""


CASES: dict[str, Case] = {
    "vgg": Case(Vgg, {"features.0.0": 8, "features.2.0": 12, "classifier.0": 20, "classifier.3": 10}),
    "residual": Case(Residual, {"stem": 8, "a.0": 12, "short": 16, "c.0": 10}),
    "option-a": Case(OptionA, {"stem.0": 8}),
    "squeeze-excite": Case(SqueezeExcite, {"stem.0": 8, "expand.0": 24, "reduce": 6}),
    "linear-gate": Case(LinearGate, {"stem.0": 12, "fc1": 4}),
    "dense": Case(Dense, {"stem": 6, "layers.0.2": 4, "layers.1.2": 4, "layers.2.2": 4, "transition.2": 8}),
    "u-net": Case(UNet, {"down1.0": 6, "down2.0": 10, "bottom.0": 12, "up": 10, "mid.0": 8, "last.0": 7}),
    "inception": Case(Inception, {"stem.0": 8, "a.0": 5, "b.0.0": 4, "b.1.0": 6, "c.0": 3}),
    "resnext": Case(ResNeXt, {"stem.0": 16, "narrow.0.0": 8, "wide.0.0": 12, "wide.1.0": 12}),
    "shuffle": Case(Shuffle, {"stem.0": 8, "a.0": 6, "c.0": 8}),
    "split-halves": Case(SplitHalves, {"stem.0": 8, "a.0": 8, "gated": 10}),
    "slice-halves": Case(SliceHalves, {"stem.0": 8}),
    "group-norms": Case(GroupNorms, {"a": 8, "b": 12, "c": 12, "d": 10}),
    "convnext": Case(ConvNeXt, {"stem": 12, "up": 30}),
    "pixel-shuffle": Case(PixelShuffle, {"a.0": 8, "b": 6}),
    "transposed-groups": Case(TransposedGroups, {"a": 6, "c": 4}),
    "spatial-attention": Case(SpatialAttention, {"stem.0": 12}),
    "shared": Case(Shared, {"stem.0": 8, "one": 6}),
    "registered": Case(Registered, {"stem.0": 8}),
    "fixed-view": Case(FixedView, {"a.0": 10}),
    "unknown": Case(Unknown, {"a.0": 10, "c.0": 6}),
    "conv1d": Case(Conv1d, {"a": 10, "b": 8}, ((2, 40),)),
    "conv3d": Case(Conv3d, {"a": 6, "b": 8}, ((1, 6, 8, 8),)),
    "recurrent": Case(Recurrent, {"embedding": 10, "lstm": 6, "gru": 5}, ((7,),), 20),
    "projected": Case(Projected, {"embedding": 10, "lstm": 6}, ((7,),), 20),
    "attention": Case(partial(Encoder, Attention), {"embedding": 12, "attention.q": 4, "gate": 16}, ((7,),), 20),
    "packed": Case(partial(Encoder, PackedAttention), {"embedding": 12, "attention.qkv": 4, "gate": 16}, ((7,),), 20),
    "grouped-query": Case(partial(Encoder, GroupedQuery), {"embedding": 12, "attention.q": 3, "gate": 16}, ((7,),), 20),
    "one-head": Case(
        partial(Encoder, OneHead), {"embedding": 12, "attention.q": 8, "attention.v": 10, "gate": 16}, ((7,),), 20
    ),
    "split-attention": Case(
        partial(Encoder, SplitAttention), {"embedding": 12, "attention.c_attn": 4, "gate": 16}, ((7,),), 20
    ),
    "encoder-layers": Case(
        EncoderLayers,
        {"embedding": 12}
        | {f"layers.layers.{i}.{name}": n for i in range(2) for name, n in (("self_attn", 4), ("linear1", 16))},
        ((7,),),
        20,
    ),
    "decoder-layers": Case(
        DecoderLayers,
        {"embedding": 12, "layer.self_attn": 4, "layer.multihead_attn": 4, "layer.linear1": 16},
        ((7,),),
        20,
    ),
    "two-inputs": Case(TwoInputs, {"image.0": 8, "vector.0": 8}, ((3, 16, 16), (7,))),
}


def perturb(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random norm statistics and scales, so that nothing agrees by accident."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 2.0)
    return net.eval()


def example(case: Case, samples: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    if case.tokens is not None:
        return tuple(torch.randint(case.tokens, (samples, *shape), generator=generator) for shape in case.inputs)
    return tuple(torch.randn(samples, *shape, generator=generator) for shape in case.inputs)


@cache
def discovered(name: str, form: Literal["modules", "graph"] = "modules") -> tuple[nn.Module, Structure]:
    """A net and its structure, found once; tests leave both alone."""
    if form == "graph":
        net, _ = discovered(name)
    else:
        torch.manual_seed(0)
        net = perturb(CASES[name].make())
    return net, discover(net, example(CASES[name]), form=form)
