"""Corruptions of images against their definitions: SciPy, Pillow, matplotlib, and published formulas."""

from __future__ import annotations

import io
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor

from autoprune_evaluators import _corruptions, _filters
from autoprune_evaluators._corruptions import corrupted
from autoprune_evaluators.corruptions import Kind

KINDS: tuple[str, ...] = get_args(Kind)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Smooth random images."""
    coarse = torch.rand(count, channels, 6, 6, generator=seeded(1))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (4, 1, 8, 8), (2, 1, 28, 20), (2, 3, 64, 72)])
def test_images_of_every_size_stay_images(kind: str, shape: tuple[int, ...]) -> None:
    images = pictures(*shape)
    before = images.clone()
    for severity in range(1, 6):
        found, again = (corrupted(images, kind, severity, seeded(severity)) for _ in range(2))
        assert found.shape == images.shape
        assert found.dtype == torch.float32
        assert ((found >= 0) & (found <= 1)).all()
        assert torch.equal(found, again)
    assert torch.equal(images, before)
    assert not torch.equal(found, images)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"glass-blur", "elastic", "frost", "pixelate"}))
@pytest.mark.parametrize("size", [32, 64])
def test_severity_rises(kind: str, size: int) -> None:
    """By how much of an image changes; elastic trades one kind of distortion for another, as published."""
    images = pictures(height=size, width=size)
    mild, severe = (float((corrupted(images, kind, level, seeded()) - images).square().mean()) for level in (1, 5))
    assert severe > 1.2 * mild


def test_each_has_five_severities_for_small_and_large_images() -> None:
    for parameters in (_corruptions._CIFAR_PARAMETERS, _corruptions._IMAGENET_PARAMETERS):
        assert tuple(parameters) == KINDS == tuple(_corruptions._KINDS)
        assert all(len(levels) == 5 for levels in parameters.values())


GREY = torch.full((50, 3, 32, 32), 0.5)


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_its_deviation(severity: int, deviation: float) -> None:
    off = (corrupted(GREY, "gaussian-noise", severity, seeded()) - GREY).double()
    assert float(off.std()) == pytest.approx(deviation, rel=0.01)
    assert abs(float(off.mean())) < 4 * deviation / off.numel() ** 0.5


@pytest.mark.parametrize(("severity", "photons"), [(1, 500), (5, 50)])
def test_shot_noise_has_a_poisson_variables_moments(severity: int, photons: int) -> None:
    for value in (0.2, 0.5):
        found = corrupted(torch.full_like(GREY, value), "shot-noise", severity, seeded()).double()
        assert float(found.mean()) == pytest.approx(value, rel=0.005)
        assert float(found.var()) == pytest.approx(value / photons, rel=0.02)
        assert ((found * photons).round() / photons - found).abs().max() < 1e-6


def test_impulse_noise_loses_its_share() -> None:
    found = corrupted(GREY, "impulse-noise", 5, seeded()).double()
    for end in (0, 1):
        assert float((found == end).double().mean()) == pytest.approx(0.035, abs=0.002)


@pytest.mark.parametrize("edges", ["nearest", "reflect"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.4, 4.0), (1.5, 4.0), (6.0, 3.0), (30.0, 3.0)])
def test_gaussian_blurs_are_scipys(edges: Any, sigma: float, truncate: float) -> None:
    images = pictures(2, height=20, width=13).double()
    found = _filters.gaussian(images, sigma, edges=edges, truncate=truncate)
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode=edges, truncate=truncate)
    assert abs(found.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize(("radius", "smooth", "reach"), [(0.3, 0.4, 1), (1.5, 0.1, 1), (6, 0.5, 1), (10, 0.5, 2)])
def test_defocus_is_a_disk_of_the_radius_smoothed(radius: float, smooth: float, reach: int) -> None:
    y, x = np.mgrid[-14:15, -14:15]
    flat = (x**2 + y**2 <= radius**2) / (x**2 + y**2 <= radius**2).sum()
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * smooth**2))
    kernel = ndimage.correlate(flat, np.outer(line, line) / line.sum() ** 2, mode="constant")
    images = pictures(2, height=40, width=50)
    found = _filters.convolved(images, _filters.disk(radius, smooth))
    expected = ndimage.correlate(images.double().numpy(), kernel[None, None], mode="mirror")
    assert abs(found.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(("degrees", "axis"), [(0.0, 3), (90.0, 2)])
def test_motion_is_half_a_gaussian_to_one_side(degrees: float, axis: int) -> None:
    images = pictures(2)
    found = _filters.moved(images, 6, 1.5, torch.full((2,), degrees))
    half = np.exp(-(np.arange(13) ** 2) / (2 * 1.5**2))
    kernel = np.concatenate([np.zeros(12), half / half.sum()])  # looks at what comes next along the axis
    expected = ndimage.correlate1d(images.double().numpy(), kernel, axis=axis, mode="nearest")
    assert abs(found.numpy() - expected).max() < 1e-5


def test_motion_aslant_goes_over_whole_pixels_one_direction_for_each_image() -> None:
    points = torch.zeros(2, 1, 21, 21)
    points[:, :, 10, 10] = 1
    found = _filters.moved(points, 3, 2.0, torch.tensor([30.0, -45.0]))
    weights = np.exp(-(np.arange(7) ** 2) / 8)
    for image, degrees in zip(found, (30.0, -45.0), strict=True):
        expected = np.zeros((21, 21))
        for step, weight in enumerate(weights / weights.sum()):
            down, right = (math.ceil(step * f(math.radians(degrees)) - 0.5) for f in (math.sin, math.cos))
            expected[10 - down, 10 - right] += weight
        assert abs(image[0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("factor", [1.0, 1.07, 1.25, 2.25, 4.5])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 27)])
def test_zooms_are_scipys(factor: float, height: int, width: int) -> None:
    images = pictures(2, height=height, width=width)
    sizes = [math.ceil(size / factor) for size in (height, width)]
    top, left = (height - sizes[0]) // 2, (width - sizes[1]) // 2
    cut = images[:, :, top : top + sizes[0], left : left + sizes[1]].double().numpy()
    large = ndimage.zoom(cut, (1, 1, factor, factor), order=1)
    top, left = (large.shape[2] - height) // 2, (large.shape[3] - width) // 2
    expected = large[:, :, top : top + height, left : left + width]
    assert abs(_filters.zoomed(images, factor).numpy() - expected).max() < 1e-5


def test_zoom_blur_is_the_mean_of_its_zooms() -> None:
    images = pictures(2)
    factors = np.arange(1, 1.11, 0.01)  # as published, where rounding brings in 1.11
    assert len(factors) == 12
    zooms = [_filters.zoomed(images, factor) for factor in factors]
    expected = (images + torch.stack(zooms).sum(0)) / 13
    assert (corrupted(images, "zoom-blur", 2, seeded()) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("at_centres", [True, False])
def test_places_between_pixels_are_scipys(at_centres: bool) -> None:
    images = pictures(2, height=12, width=17).double()
    rows = 40 * torch.rand(2, 12, 17, generator=seeded()).double() - 14
    columns = 50 * torch.rand(2, 12, 17, generator=seeded(1)).double() - 16
    found = _filters.sampled(images, rows, columns, at_centres=at_centres)
    for image, sampled, *places in zip(images, found, rows, columns, strict=True):
        for channel, ours in zip(image, sampled, strict=True):
            mode = "mirror" if at_centres else "reflect"
            expected = ndimage.map_coordinates(channel.numpy(), [each.numpy() for each in places], order=1, mode=mode)
            assert abs(ours.numpy() - expected).max() < 1e-9


@pytest.mark.parametrize("share", [0.95, 0.65, 0.25])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 37)])
def test_pixelate_is_pillows_box(share: float, height: int, width: int) -> None:
    image = pictures(1, 1, height, width)[0, 0]
    small = (int(width * share), int(height * share))
    ours = _filters.boxed(_filters.boxed(image[None, None], small[::-1]), (height, width))[0, 0]
    theirs = Image.fromarray(image.numpy()).resize(small, Image.Resampling.BOX)
    expected = np.asarray(theirs.resize((width, height), Image.Resampling.BOX))
    assert abs(ours.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows_at_the_published_quality(channels: int) -> None:
    images = pictures(2, channels)
    for severity, quality in ((1, 80), (5, 40)):
        found = corrupted(images, "jpeg", severity, seeded())
        for image, ours in zip(images, found, strict=True):
            pixels = np.rint(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8).squeeze()
            Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=quality)
            expected = np.asarray(Image.open(file)).reshape(32, 32, channels)
            assert abs(255 * ours.permute(1, 2, 0).numpy() - expected).max() < 1e-3


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_adds_to_the_value_of_hue_saturation_value(severity: int) -> None:
    images = pictures()
    images[0, :, :4] = 0.0  # black has no hue
    hsv = rgb_to_hsv(images.permute(0, 2, 3, 1).double().numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 0, 1)
    expected = hsv_to_rgb(hsv)
    assert abs(corrupted(images, "brightness", severity, seeded()).permute(0, 2, 3, 1).numpy() - expected).max() < 1e-5


def test_contrast_shrinks_towards_each_channels_mean() -> None:
    images = pictures()
    means = images.numpy().mean((2, 3), keepdims=True)
    expected = (images.numpy() - means) * 0.3 + means
    assert abs(corrupted(images, "contrast", 4, seeded()).numpy() - expected).max() < 1e-6


@pytest.mark.parametrize(("reach", "rounds"), [(1, 1), (2, 3)])
def test_glass_swaps_pixels_with_near_ones(reach: int, rounds: int) -> None:
    numbers = torch.arange(2 * 144.0).view(2, 1, 12, 12).expand(-1, 3, -1, -1)
    found = _filters.shuffled(numbers, reach, rounds, seeded())
    assert torch.equal(found.flatten(2).sort().values, numbers.flatten(2))  # nothing is lost or doubled
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(found[:, :, 0], numbers[:, :, 0])
    assert not torch.equal(found[0, 0], found[1, 0] - 144)
    assert (found != numbers).double().mean() > 0.4


def test_clouds_are_diamond_square_maps() -> None:
    """Against the algorithm pixel by pixel, on the same draws."""
    size, decay = 8, 1.75
    generator, heights, step, height = seeded(4), np.zeros((8, 8)), 8, 100.0
    while step > 1:
        half, count = step // 2, size // step
        draws = [2 * torch.rand(1, count, count, generator=generator).numpy()[0] - 1 for _ in range(3)]
        for part, (dy, dx) in enumerate(((half, half), (0, half), (half, 0))):
            reached = [(-half, -half), (-half, half), (half, -half), (half, half)]
            reached = reached if part == 0 else [(-half, 0), (half, 0), (0, -half), (0, half)]
            for row in range(count):
                for column in range(count):
                    y, x = row * step + dy, column * step + dx
                    near = [heights[(y + down) % size, (x + right) % size] for down, right in reached]
                    heights[y, x] = np.mean(near) + height**2 * draws[part][row, column]
        step, height = half, height / decay
    expected = (heights - heights.min()) / (heights.max() - heights.min())
    assert abs(_filters.cloud(1, 8, decay, seeded(4))[0].numpy() - expected).max() < 1e-4
    rough, smooth = (_filters.cloud(20, 32, each, seeded()).diff(dim=1).abs().mean() for each in (1.5, 3.0))
    assert rough > 1.5 * smooth


def test_fog_lies_between_nothing_and_the_densest() -> None:
    found = corrupted(torch.full((9, 3, 32, 32), 0.6), "fog", 5, seeded())
    assert (found.amin((1, 2, 3)) - 0.36 / 2.1).abs().max() < 1e-5  # x · max / (max + c) where there is none
    assert (found.amax((1, 2, 3)) - 0.6).abs().max() < 1e-5
    assert torch.equal(found[:, 0], found[:, 1])


def test_snow_falls_twice_once_upside_down() -> None:
    found = corrupted(torch.zeros(200, 1, 32, 32), "snow", 1, seeded())
    assert (found - found.rot90(2, (-2, -1))).abs().max() < 1e-6
    paler = 0.05 * 0.5  # by the share of max(x, 1.5 grey + 0.5)
    assert float(found.min()) == pytest.approx(paler)
    # Flakes are normal, of mean 0.1 and deviation 0.2, where they are over 0.6; a blur keeps their mean.
    flakes = 0.1 * stats.norm.sf(2.5) + 0.2 * stats.norm.pdf(2.5)
    assert float(found.mean()) == pytest.approx(paler + 2 * flakes, rel=0.03)


def test_frost_covers_in_cold_colours() -> None:
    black = corrupted(torch.zeros(9, 3, 32, 32), "frost", 5, seeded())
    assert float(black.max()) <= 0.45
    assert float(black.mean()) > 0.1
    assert (black[:, 0] <= black[:, 2]).all()
    white = corrupted(torch.ones(9, 3, 32, 32), "frost", 5, seeded())
    assert (white >= 0.75).all()


def test_elastic_shifts_are_smooth_noise_by_scipy() -> None:
    images = pictures(2)
    found = _corruptions._elastic(images, (0.1, 0.04, 0.0), 1.0, generator := seeded(3))
    generator.manual_seed(3)
    torch.rand(2, 3, 2, generator=generator)  # of the corners, which stay
    shifts = 2 * torch.rand(2, 2, 32, 32, generator=generator).double().numpy() - 1
    dx, dy = (0.1 * 32 * ndimage.gaussian_filter(each, (0, 1.28, 1.28), mode="reflect", truncate=3) for each in shifts)
    rows, columns = np.mgrid[:32, :32]
    for image, ours, right, down in zip(images.double().numpy(), found, dx, dy, strict=True):
        for channel, our in zip(image, ours.numpy(), strict=True):
            expected = ndimage.map_coordinates(channel, [rows + down, columns + right], order=1, mode="reflect")
            assert abs(our - expected).max() < 1e-4


def test_elastic_moves_three_corners_to_where_they_are_drawn() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramps = (torch.stack([rows, columns]) / 31).unsqueeze(1)
    found = _corruptions._elastic(ramps, (0.0, 0.0, 0.08), 1.0, generator := seeded(3))
    generator.manual_seed(3)
    offsets = 0.08 * 32 * (2 * torch.rand(2, 3, 2, generator=generator).double().numpy() - 1)
    corners = 16 + 10 * np.array([[1, 1], [1, -1], [-1, -1]])
    for axis, (image, moved) in enumerate(zip(found, offsets, strict=True)):
        goals = corners + moved  # x, y
        values = ndimage.map_coordinates(image[0].double().numpy(), [goals[:, 1], goals[:, 0]], order=1)
        assert 31 * values == pytest.approx(corners[:, 1 - axis], abs=0.01)
