"""Nets of frequencies, complex numbers, pairs of tables and weights made for every sample, as published models have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .operator_nets import Cases, convolution, images, linear, parameter, rows, steps, tokens

CASES = Cases()
case = CASES.enter


@case({"i": 16}, steps, i=linear(6, 16), w=parameter(16, 3, 2), o=linear(16, 4))
def filtered_steps(m, x):
    y = torch.fft.rfft(m.i(x).relu().transpose(1, 2), n=8)[..., :3]
    y = torch.fft.irfft(y * torch.view_as_complex(m.w), n=8)
    return m.o(y[..., :5].transpose(1, 2))


@case({"i": 16}, steps, i=linear(6, 16), o=linear(16, 4))
def mixed_by_frequencies(m, x):
    """As FNet mixes steps, arXiv:2105.03824; units stay apart."""
    y = m.i(x)
    return m.o(torch.fft.fft(y, dim=1).real + y)


@case({}, steps, i=linear(6, 16), o=linear(16, 4))
def mixed_units_by_frequencies(m, x):
    return m.o(torch.fft.fft2(m.i(x)).real)


@case({"i": 12, "w": 10}, images, i=convolution(3, 12), w=parameter(12, 10, 3, 3, 2), o=convolution(10, 2))
def spectral_convolution(m, x):
    """Of a Fourier neural operator, arXiv:2010.08895."""
    y = torch.fft.rfft2(m.i(x).relu())
    low = torch.einsum("bixy,ioxy->boxy", y[:, :, :3, :3], torch.view_as_complex(m.w))
    return m.o(torch.fft.irfft2(low, s=(8, 8)).relu())


@case(
    {"i": 12, "w": 10}, images,
    i=convolution(3, 12), w=lambda: nn.Parameter(0.3 * torch.randn(12, 10, 3, 3, dtype=torch.cfloat)),
    o=convolution(10, 2),
)  # fmt: skip
def complex_weights(m, x):
    y = torch.fft.rfftn(m.i(x).relu(), dim=(-2, -1))
    low = torch.einsum("bixy,ioxy->boxy", y[:, :, :3, :3], m.w)
    return m.o(torch.fft.irfftn(low, s=(8, 8), dim=(-2, -1)).relu())


@case({"a": 16}, rows, a=linear(8, 16), b=linear(8, 16), o=linear(16, 4))
def magnitudes(m, x):
    y = torch.complex(m.a(x), m.b(x))
    return m.o(torch.view_as_real(y).square().sum(-1).sqrt() + torch.polar(m.a(x).abs(), m.b(x)).imag)


@case(
    {"e": 12}, tokens,
    e=lambda: nn.Embedding(30, 12), f=lambda: nn.Embedding(30, 12), g=lambda: nn.Embedding(30, 12), o=linear(3, 4),
)  # fmt: skip
def dots_of_pairs(m, x):
    """As in DLRM, arXiv:1906.00091: tables joined along their width, then read as rows of it."""
    y = torch.cat([m.e(x[:, 0]), m.f(x[:, 1]), m.g(x[:, 2])], 1).view(len(x), 3, -1)
    return m.o((y @ y.transpose(1, 2))[:, [1, 2, 2], [0, 0, 1]].tanh())


def modulated(m, x):
    """Weights for every sample, and all samples as groups of one (StyleGAN2, arXiv:1912.04958)."""
    y = m.i(x).relu()
    weight = m.w[None] * (m.s(x.mean((2, 3))).view(len(x), 1, -1, 1, 1) + 1)
    return y, weight * torch.rsqrt(weight.square().sum((2, 3, 4)) + 1e-8).view(len(x), -1, 1, 1, 1)


MODULATED = {"i": convolution(3, 12), "s": linear(3, 12), "w": parameter(10, 12, 3, 3), "o": convolution(10, 2)}


@case({"i": 12, "w": 10}, images, **MODULATED)
def modulated_convolution(m, x):
    y, weight = modulated(m, x)
    n, channels, height, width = y.shape
    y = F.conv2d(y.view(1, n * channels, height, width), weight.view(-1, channels, 3, 3), padding=1, groups=n)
    return m.o(y.view(n, -1, height, width).relu())


@case({"i": 12, "w": 10}, images, **MODULATED)
def modulated_transposed_convolution(m, x):
    y, weight = modulated(m, x)
    n, channels, height, width = y.shape
    weight = weight.transpose(1, 2).reshape(n * channels, -1, 3, 3)
    y = F.conv_transpose2d(y.view(1, n * channels, height, width), weight, stride=2, groups=n)
    return m.o(y.view(n, -1, 17, 17).relu())


@case({"i": 12}, images, i=convolution(3, 12), k=linear(3, 108), o=convolution(12, 2))
def kernels_made_of_the_input(m, x):
    y, kernels = m.i(x).relu(), m.k(x.mean((2, 3)))
    n, channels, height, width = y.shape
    kernels = kernels.view(n * channels, 1, 3, 3)
    y = F.conv2d(y.view(1, n * channels, height, width), kernels, padding=1, groups=n * channels)
    return m.o(y.view(n, channels, height, width).relu())


@case({"s": 16, "w": 10}, i=linear(8, 16), s=linear(8, 16), w=parameter(10, 16), o=linear(10, 4))
def modulated_rows(m, x):
    weight = m.w * m.s(x).unsqueeze(1)
    return m.o(torch.bmm(weight, m.i(x).relu().unsqueeze(2)).squeeze(2).relu())


@case({"i": 12}, steps, i=linear(6, 12), w=parameter(5, 12), s=linear(6, 12), o=linear(12, 4))
def scaled_positions(m, x):
    """What looks like such a weight has a row for every step."""
    return m.o((m.i(x) * (m.w * m.s(x[:, 0]).unsqueeze(1))).relu())
