"""The fifteen common corruptions at five severities of ImageNet-C and CIFAR-10-C, on tensors.

Hendrycks and Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*,
arXiv:1903.12261, with the parameters that they published. Frost is made up, where they paste photographs of it: what is
measured under it is not comparable with theirs. Pixels under glass are swapped, as the article says.

Shapes use: N images of C channels, 1 or 3, height H and width W, in [0, 1].
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from autoprune_evaluators import _filters

_LARGE = 64
"""Pixels of the smaller side, from which on images take ImageNet's parameters."""
_IMAGENET = 224
_TINT = (0.80, 0.92, 1.0)
"""Of frost, red, green and blue."""

_CIFAR_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "gaussian-noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot-noise": (500, 250, 100, 75, 50),
    "impulse-noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus-blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass-blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion-blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom-blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg": (80, 65, 58, 50, 40),
}
_IMAGENET_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "gaussian-noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot-noise": (60, 25, 12, 5, 3),
    "impulse-noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus-blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass-blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion-blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom-blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    # Published as shares of 244 pixels, though images have 224.
    "elastic": tuple(
        tuple(each * 244 / 224 for each in shares)
        for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    ),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg": (25, 18, 15, 10, 7),
}


def corrupted(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Images as a corruption leaves them, (N, C, H, W) in [0, 1].

    Smaller ones than 64 pixels take the parameters of CIFAR-10-C, larger ones those of ImageNet-C, with lengths in
    pixels scaled by the smaller side over 224.

    Args:
        images: On the CPU.
        kind: One of the fifteen.
        severity: 1 … 5.
        generator: Of the CPU.
    """
    large = min(images.shape[-2:]) >= _LARGE
    parameters = (_IMAGENET_PARAMETERS if large else _CIFAR_PARAMETERS)[kind][severity - 1]
    scale = min(images.shape[-2:]) / _IMAGENET if large else 1.0
    return _KINDS[kind](images, parameters, scale, generator).clamp(0, 1)


def _gaussian_noise(images: Tensor, deviation: float, _: float, generator: torch.Generator) -> Tensor:
    return images + deviation * torch.randn(images.shape, generator=generator)


def _shot_noise(images: Tensor, photons: float, _: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(images * photons, generator=generator) / photons


def _impulse_noise(images: Tensor, share: float, _: float, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(images.shape, generator=generator)
    return images.masked_fill(drawn < share / 2, 0.0).masked_fill(drawn >= 1 - share / 2, 1.0)


def _defocus_blur(images: Tensor, lens: tuple[float, float], scale: float, _: torch.Generator) -> Tensor:
    radius, smooth = lens
    return _filters.convolved(images, _filters.disk(radius * scale, smooth))


def _glass_blur(images: Tensor, glass: tuple[float, int, int], scale: float, generator: torch.Generator) -> Tensor:
    sigma, reach, rounds = glass
    blurred = _filters.gaussian(images, sigma * scale, edges="nearest")
    swapped = _filters.shuffled(blurred, max(1, round(reach * scale)), rounds, generator)
    return _filters.gaussian(swapped, sigma * scale, edges="nearest")


def _motion_blur(images: Tensor, motion: tuple[float, float], scale: float, generator: torch.Generator) -> Tensor:
    radius, sigma = motion
    degrees = 90 * torch.rand(len(images), generator=generator) - 45
    return _filters.moved(images, radius * scale, sigma * scale, degrees)


def _zoom_blur(images: Tensor, zoom: tuple[float, float], _: float, __: torch.Generator) -> Tensor:
    factors = np.arange(1, *zoom)
    return (images + sum(_filters.zoomed(images, float(factor)) for factor in factors)) / (len(factors) + 1)


def _snow(images: Tensor, snow: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
    middle, deviation, zoom, least, radius, sigma, clear = snow
    flakes = middle + deviation * torch.randn(len(images), 1, *images.shape[-2:], generator=generator)
    flakes = _filters.zoomed(flakes, max(1.0, zoom * scale))
    flakes = flakes.masked_fill(flakes < least, 0.0).clamp(0, 1)
    degrees = 90 * torch.rand(len(images), generator=generator) - 135
    flakes = _filters.moved(flakes, radius * scale, sigma * scale, degrees)
    pale = clear * images + (1 - clear) * images.maximum(1.5 * _grey(images) + 0.5)
    return pale + flakes + flakes.rot90(2, (-2, -1))


def _frost(images: Tensor, mix: tuple[float, float], _: float, generator: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    heights = _filters.cloud(len(images), max(height, width), 1.6, generator)[:, None, :height, :width]
    tint = torch.tensor(_TINT)
    colour = tint if images.shape[1] == len(_TINT) else tint.mean(0, keepdim=True)
    crystals = (1 - (2 * heights - 1).abs()) * colour.view(1, -1, 1, 1)  # bright along ridges
    return mix[0] * images + mix[1] * crystals


def _fog(images: Tensor, fog: tuple[float, float], _: float, generator: torch.Generator) -> Tensor:
    dense, decay = fog
    height, width = images.shape[-2:]
    heights = _filters.cloud(len(images), max(height, width), decay, generator)[:, None, :height, :width]
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + dense * heights) * brightest / (brightest + dense)


def _brightness(images: Tensor, more: float, _: float, __: torch.Generator) -> Tensor:
    value = images.amax(1, keepdim=True)  # of hue, saturation and value
    wanted = (value + more).clamp(0, 1)
    return torch.where(value > 0, images * (wanted / value.clamp_min(1e-12)), wanted)


def _contrast(images: Tensor, share: float, _: float, __: torch.Generator) -> Tensor:
    means = images.mean((2, 3), keepdim=True)
    return (images - means) * share + means


def _elastic(images: Tensor, elastic: tuple[float, float, float], _: float, generator: torch.Generator) -> Tensor:
    count, _channels, height, width = images.shape
    side = min(height, width)
    strength, sigma, jitter = (share * side for share in elastic)
    middle, reach = torch.tensor([width // 2, height // 2]).double(), side // 3
    corners = middle + reach * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).double()
    goals = corners + jitter * (2 * torch.rand(count, 3, 2, generator=generator).double() - 1)
    back = torch.linalg.solve(torch.cat([goals, torch.ones(count, 3, 1).double()], 2), corners.expand(count, -1, -1))
    rows, columns = (each.double() for each in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    across, down = (torch.stack([columns, rows, torch.ones_like(rows)], -1).flatten(0, 1) @ back).unbind(-1)
    shape = (count, height, width)
    turned = _filters.sampled(images, down.view(shape), across.view(shape), at_centres=True)
    shifts = 2 * torch.rand(2, *shape, generator=generator).double() - 1
    dx, dy = strength * _filters.gaussian(shifts, sigma, edges="reflect", truncate=3.0)
    return _filters.sampled(turned, rows + dy, columns + dx, at_centres=False)


def _pixelate(images: Tensor, share: float, _: float, __: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    small = _filters.boxed(images, (max(1, int(height * share)), max(1, int(width * share))))
    return _filters.boxed(small, (height, width))


def _jpeg(images: Tensor, quality: int, _: float, __: torch.Generator) -> Tensor:
    return torch.stack([_as_jpeg(image, quality) for image in images])


def _as_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = (255 * image).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file := io.BytesIO(), "JPEG", quality=quality
    )
    read = np.array(Image.open(file), dtype=np.float32).reshape(pixels.shape) / 255
    return torch.from_numpy(read).permute(2, 0, 1)


def _grey(images: Tensor) -> Tensor:
    """How bright each pixel is, (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


_KINDS: dict[str, Callable[..., Tensor]] = {
    "gaussian-noise": _gaussian_noise,
    "shot-noise": _shot_noise,
    "impulse-noise": _impulse_noise,
    "defocus-blur": _defocus_blur,
    "glass-blur": _glass_blur,
    "motion-blur": _motion_blur,
    "zoom-blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic": _elastic,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
