"""What corruptions of images are made of: blurs, zooms, shifts, fractal clouds.

Shapes use: N images of C channels, height H and width W. Whatever is drawn is drawn on the CPU.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def gaussian(images: Tensor, sigma: float, *, edges: Literal["nearest", "reflect"], truncate: float = 4.0) -> Tensor:
    """A Gaussian blur, (…, H, W).

    Args:
        images: Of any number of leading dimensions.
        sigma: In pixels; 0 changes nothing.
        edges: What lies outside: the border's pixel, or the image mirrored at its edge.
        truncate: Standard deviations after which the kernel ends.
    """
    if not sigma:
        return images
    across = [_gaussian_matrix(size, sigma, edges, truncate).to(images) for size in images.shape[-2:]]
    return across[0] @ images @ across[1].T


def _gaussian_matrix(size: int, sigma: float, edges: str, truncate: float) -> Tensor:
    """The blur of a row as a matrix, (size, size)."""
    reach = int(truncate * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma).square())
    place = torch.arange(size)[:, None] + offsets
    if edges == "nearest":
        place = place.clamp(0, size - 1)
    else:
        place = place % (2 * size)
        place = torch.minimum(place, 2 * size - 1 - place)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, place, (kernel / kernel.sum()).expand(size, -1))


def disk(radius: float, smooth: float) -> Tensor:
    """The kernel of a lens out of focus, (K, K): a disk whose edge is smoothed.

    Args:
        radius: In pixels.
        smooth: Standard deviation of the Gaussian that smooths it, within one pixel; two for a radius over 8.
    """
    reach = 2 if radius > 8 else 1
    half = math.floor(radius) + reach
    place = torch.arange(-half, half + 1.0)
    flat = ((place[:, None].square() + place.square()) <= radius**2).double()
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0).double() / smooth).square())
    line = line / line.sum()
    smoothed = functional.conv2d(
        (flat / flat.sum())[None, None], line[:, None] @ line[None, :][None, None], padding=reach
    )
    return smoothed[0, 0]


def convolved(images: Tensor, kernel: Tensor) -> Tensor:
    """Images (N, C, H, W), mirrored at their border pixels, by one symmetric kernel (K, K) for all channels."""
    half = kernel.shape[0] // 2
    padded = functional.pad(images, (half,) * 4, mode="reflect")
    weight = kernel.to(images).expand(images.shape[1], 1, -1, -1)
    return functional.conv2d(padded, weight, groups=images.shape[1])


def moved(images: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """The blur of a motion, as ImageMagick makes it: half a Gaussian to one side, on whole pixels.

    Args:
        images: (N, C, H, W).
        radius: Half of the kernel's length, in pixels.
        sigma: Of the Gaussian, in pixels.
        degrees: The direction of each image, (N,).
    """
    height, width = images.shape[-2:]
    steps = torch.arange(2 * math.ceil(radius) + 1)
    kernel = torch.exp(-0.5 * (steps.double() / sigma).square())
    angle = degrees.double().deg2rad()
    down, right = (torch.ceil(steps[:, None] * along - 0.5).long() for along in (angle.sin(), angle.cos()))
    blurred = torch.zeros_like(images)
    every = torch.arange(len(images))[:, None, None]
    for share, dy, dx in zip((kernel / kernel.sum()).tolist(), down, right, strict=True):
        rows = (torch.arange(height) + dy[:, None]).clamp(0, height - 1)[:, :, None]
        columns = (torch.arange(width) + dx[:, None]).clamp(0, width - 1)[:, None, :]
        blurred += share * images[every, :, rows, columns].permute(0, 3, 1, 2)
    return blurred


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of images (N, C, H, W), enlarged linearly to their size."""
    sizes = images.shape[-2:]
    inner = [math.ceil(size / factor) for size in sizes]
    top, left = ((size - part) // 2 for size, part in zip(sizes, inner, strict=True))
    cut = images[..., top : top + inner[0], left : left + inner[1]]
    wanted = [round(part * factor) for part in inner]
    large = functional.interpolate(cut, size=wanted, mode="bilinear", align_corners=True)
    top, left = ((part - size) // 2 for size, part in zip(sizes, wanted, strict=True))
    return large[..., top : top + sizes[0], left : left + sizes[1]]


def boxed(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W) at another size: the mean of the pixels whose centre lies in the new one, as Pillow's box."""
    down, across = (_box_matrix(*pair).to(images) for pair in zip(images.shape[-2:], size, strict=True))
    return down @ images @ across.T


def _box_matrix(size: int, wanted: int) -> Tensor:
    """Rows of pixels as means of others, (wanted, size)."""
    scale = size / wanted
    middles = (torch.arange(wanted).double() + 0.5) * scale
    off = (torch.arange(size).double() + 0.5 - middles[:, None]) / max(scale, 1.0)
    inside = ((off > -0.5) & (off <= 0.5)).double()
    return inside / inside.sum(1, keepdim=True)


def sampled(images: Tensor, rows: Tensor, columns: Tensor, *, at_centres: bool) -> Tensor:
    """Images (N, C, H, W) at any places, linearly between pixels.

    Args:
        images: Mirrored outside.
        rows: In pixels, (N, H, W).
        columns: In pixels, (N, H, W).
        at_centres: Whether the mirrors stand at the centres of the border's pixels, or else at the images' edges.
    """
    pairs = zip((columns, rows), images.shape[:-3:-1], strict=True)
    places = [2 * at / max(1, size - 1) - 1 if at_centres else (2 * at + 1) / size - 1 for at, size in pairs]
    grid = torch.stack(places, dim=-1).to(images)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=at_centres)


def shuffled(images: Tensor, reach: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Each pixel but those of the border swapped with one at most so far away, one after the other, (N, C, H, W)."""
    count, _, height, width = images.shape
    place = np.tile(np.arange(height * width), (count, 1))
    every = np.arange(count)
    own = [y * width + x for y in range(height - reach, reach, -1) for x in range(width - reach, reach, -1)]
    for _ in range(rounds):
        drawn = torch.randint(-reach, reach, (2, len(own), count), generator=generator).numpy()
        partners = np.asarray(own)[:, None] + drawn[0] * width + drawn[1]
        for pixel, others in zip(own, partners, strict=True):
            here = place[:, pixel].copy()
            place[:, pixel] = place[every, others]
            place[every, others] = here
    index = torch.from_numpy(place)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view_as(images)


def cloud(count: int, size: int, decay: float, generator: torch.Generator) -> Tensor:
    """Fractal height maps by the diamond-square algorithm on a torus, (count, size, size) in [0, 1].

    Fournier et al., *Computer rendering of stochastic models*, Communications of the ACM 25 (1982).

    Args:
        count: How many.
        size: Rows and columns.
        decay: By how much the heights that are added shrink with each halving of the step.
        generator: Of the CPU.
    """
    side = 2 ** max(1, math.ceil(math.log2(size)))
    heights = torch.zeros(count, side, side)
    step, height = side, 100.0

    def jittered(total: Tensor) -> Tensor:
        return total / 4 + height * height * (2 * torch.rand(total.shape, generator=generator) - 1)

    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]
        beside, below = (corners + corners.roll(-1, dim) for dim in (2, 1))
        heights[:, half::step, half::step] = middles = jittered(beside + beside.roll(-1, 1))
        heights[:, ::step, half::step] = jittered(beside + middles + middles.roll(1, 1))
        heights[:, half::step, ::step] = jittered(below + middles + middles.roll(1, 2))
        step, height = half, height / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return (heights / heights.amax((1, 2), keepdim=True))[:, :size, :size]
