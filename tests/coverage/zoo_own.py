"""Cases of our own: what is built by hand for text, sound, images and several inputs."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoprune.structure import nets
from . import own_nets
from .zoo import Case, Inputs, both, features, tokens


class Classifier(nn.Module):
    """Embedding, a recurrent net of two layers in both directions, a classifier on the mean and the last state."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.rnn = kind(16, 12, 2, bidirectional=True, batch_first=True, dropout=0.1)
        self.linear = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.embedding(x))
        return self.linear(torch.cat([y.mean(1), y[:, -1]], 1))


class Seq2Seq(nn.Module):
    """An LSTM encoder, an LSTM decoder that starts from its state and looks back at it, one table for both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        self.encoder = nn.LSTM(16, 20, batch_first=True)
        self.decoder = nn.LSTM(16, 20, batch_first=True)
        self.mix = nn.Linear(40, 16)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encoder(self.embedding(source))
        y, _ = self.decoder(self.embedding(target), state)
        found = torch.bmm(torch.softmax(torch.bmm(y, memory.transpose(1, 2)), -1), memory)
        return F.linear(torch.tanh(self.mix(torch.cat([y, found], -1))), self.embedding.weight)


class Autoencoder(nn.Module):
    """Strided convolutions into a code, transposed convolutions back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(12, 20, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(320, 24),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(24, 320), nn.ReLU(), nn.Unflatten(1, (20, 4, 4)), nn.ConvTranspose2d(20, 12, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(12, 3, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Siamese(nn.Module):
    """One encoder for both images; distance, product and cosine decide."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nets.cbr(3, 12), nn.MaxPool2d(2), nets.cbr(12, 20))
        self.code, self.head = nn.Linear(20, 16), nn.Linear(32, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = (self.code(self.body(x).mean((2, 3))) for x in (a, b))
        return self.head(torch.cat([(a - b).abs(), a * b], 1))


class ImageText(nn.Module):
    """Images and text, each with its encoder; text gates the image's channels, and both are read together."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nets.cbr(3, 12), nn.MaxPool2d(2), nets.cbr(12, 24))
        self.embedding, self.text = nn.Embedding(50, 16), nn.GRU(16, 24, batch_first=True)
        self.gate, self.head = nn.Linear(24, 24), nn.Linear(48, 4)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        x, y = self.image(image), self.text(self.embedding(text))[1][-1]
        x = x * torch.sigmoid(self.gate(y))[:, :, None, None]
        return self.head(torch.cat([x.mean((2, 3)), y], 1))


class Mixer(nn.Module):
    """Patches mixed across positions and across channels, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(5))
        self.tokens = nn.ModuleList(nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 16)) for _ in range(2))
        self.channels = nn.ModuleList(nn.Sequential(nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 24)) for _ in range(2))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for i in range(2):
            x = x + self.tokens[i](self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + self.channels[i](self.norms[2 * i + 1](x))
        return self.head(self.norms[4](x).mean(1))


class Audio(nn.Module):
    """Dilated, gated 1-D convolutions with skip connections (WaveNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 12, 5)
        self.gated = nn.ModuleList(nn.Conv1d(12, 32, 3, padding=2**i, dilation=2**i) for i in range(3))
        self.skip = nn.ModuleList(nn.Conv1d(16, 20, 1) for _ in range(3))
        self.back = nn.ModuleList(nn.Conv1d(16, 12, 1) for _ in range(3))
        self.norm, self.head = nn.BatchNorm1d(20), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.stem(x), torch.zeros(())
        for gated, skip, back in zip(self.gated, self.skip, self.back, strict=True):
            filtered, gate = gated(x).chunk(2, 1)
            y = torch.tanh(filtered) * torch.sigmoid(gate)
            x, total = x + back(y), total + skip(y)
        return self.head(F.relu(self.norm(total)).mean(-1))


class ResNet20(nn.Module):
    """The ResNet-20 for CIFAR of He et al. (arXiv:1512.03385), with its zero-padded shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nets.cbr(3, 16)
        widths = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
        self.blocks = nn.ModuleList(
            nn.Sequential(nets.cbr(i, o, stride=o // i), nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o))
            for i, o in widths
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y, more = block(x), block[2].num_features - x.shape[1]
            if more:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more // 2, more // 2))
            x = F.relu(x + y)
        return self.linear(x.mean((2, 3)))


class RmsBlock(nn.Module):
    """Norms by hand: a root of a mean of squares, a mean and a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.scale, self.up, self.down = nn.Parameter(torch.ones(16)), nn.Linear(16, 24), nn.Linear(24, 16)
        self.gain, self.shift, self.head = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16)), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        x = x + self.down(F.silu(self.up(y)))
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return self.head(((x - mean) / (variance + 1e-5).sqrt() * self.gain + self.shift).mean(1))


def _own(name: str, make: type[nn.Module] | functools.partial[nn.Module], inputs: Inputs) -> Case:
    return Case("own", name, name, make, inputs)


def _tested(name: str, net: str) -> Case:
    case = nets.CASES[net]
    inputs = [tokens(case.tokens, *shape) if case.tokens else features(*shape) for shape in case.inputs]
    return Case("own", name, name, case.make, both(*inputs))


_IMAGE = features(3, 16, 16)

CASES = [
    _own("lstm-classifier", functools.partial(Classifier, nn.LSTM), tokens(50, 9)),
    _own("gru-classifier", functools.partial(Classifier, nn.GRU), tokens(50, 9)),
    _own("seq2seq", Seq2Seq, both(tokens(40, 8), tokens(40, 6))),
    _own("autoencoder", Autoencoder, _IMAGE),
    _own("siamese", Siamese, both(_IMAGE, _IMAGE)),
    _own("image-text", ImageText, both(_IMAGE, tokens(50, 9))),
    _own("mixer", Mixer, _IMAGE),
    _own("audio", Audio, features(1, 64)),
    _own("resnet20-option-a", ResNet20, _IMAGE),
    _own("hand-written-norms", RmsBlock, tokens(50, 9)),
    _own("window-attention", own_nets.WindowAttention, _IMAGE),
    _own("selective-kernels", own_nets.SelectiveKernels, _IMAGE),
    _own("standardised-weights", own_nets.Standardised, _IMAGE),
    _own("einsum-attention", own_nets.EinsumAttention, tokens(50, 9)),
    _tested("u-net", "u-net"),
    _tested("densenet", "dense"),
    _tested("conv3d", "conv3d"),
    _tested("super-resolution", "pixel-shuffle"),
    _tested("encoder-layers", "encoder-layers"),
    _tested("decoder-layers", "decoder-layers"),
]
