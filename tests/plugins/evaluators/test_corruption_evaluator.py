"""Accuracy on corrupted images: what is averaged, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Measured, Split
from autoprune_evaluators import Corruption
from autoprune_evaluators._corruptions import corrupted
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import Answer, context

if TYPE_CHECKING:
    from conftest import Case

FEW: dict[str, Any] = {"kinds": ("fog", "gaussian-noise"), "severities": (2, 5), "samples": 60, "batch_size": 40}


def other() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def evaluate(case: Case, evaluator: Corruption, model: nn.Module | None = None, **changes: Any) -> dict[str, Measured]:
    found = evaluator.evaluate(model or case.model, case.context(**changes))
    assert list(found) == [metric.name for metric in evaluator.declares(case.data)]
    return {name: value for name, value in found.items() if isinstance(value, Measured)}


def by_hand(case: Case, model: nn.Module, kind: str, severity: int, number: int) -> Tensor:
    """Which of the 60 images are right: 40, then 20, in the evaluator's order."""
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:60]
    inputs, targets = case.data.validation.fetch(order)
    generator = torch.Generator().manual_seed(number)
    parts = [corrupted(part, kind, severity, generator) for part in inputs.first.split(40)]
    images = (255 * torch.cat(parts)).round() / 255
    with torch.no_grad():
        return (model(images).argmax(1) == targets).double()


@pytest.mark.slow
def test_it_is_the_mean_over_corruptions_and_severities(digits: Case) -> None:
    evaluator, model = Corruption(**FEW, each=True), other()
    found = evaluate(digits, evaluator, model)
    fog = torch.stack([by_hand(digits, model, "fog", each, 45 + each) for each in (2, 5)])
    noise = torch.stack([by_hand(digits, model, "gaussian-noise", each, each) for each in (2, 5)])
    assert found["corruption_accuracy_fog"].value == pytest.approx(float(fog.mean()))
    assert found["corruption_accuracy_gaussian_noise"].value == pytest.approx(float(noise.mean()))
    mean = torch.cat([fog, noise]).mean(0)
    whole = found["corruption_accuracy"]
    assert whole.value == pytest.approx(float(mean.mean()))
    assert whole.high - whole.low == pytest.approx(2 * 1.96 * float(mean.std()) / 60**0.5, rel=1e-3)
    assert whole.samples == 60
    alone = evaluate(digits, Corruption(**{**FEW, "kinds": ("fog",)}), model)
    assert alone["corruption_accuracy"].value == found["corruption_accuracy_fog"].value


@pytest.mark.slow
def test_differences_are_paired(digits: Case) -> None:
    evaluator = Corruption(**FEW, each=True)
    dense = evaluate(digits, evaluator, of_dense=True)
    assert all(each.difference is None for each in dense.values())
    found = evaluate(digits, evaluator, other())
    for name, each in found.items():
        assert each.difference is not None
        assert each.difference.value == pytest.approx(each.value - dense[name].value)
        assert each.difference.low < each.difference.value < each.difference.high < 0


@pytest.mark.slow
def test_all_fifteen_make_digits_harder(digits: Case) -> None:
    cache: dict[Any, Any] = {}
    told: list[Mapping[str, Measured]] = []
    evaluator = Corruption(samples=100, batch_size=50)
    found = evaluate(digits, evaluator, cache=cache, report=told.append)["corruption_accuracy"]
    assert 0.3 < found.value < 0.9
    assert [each["corruption_accuracy"].samples for each in told] == [50, 100]
    (images,) = (value for key, value in cache.items() if key[0] == "autoprune_evaluators.corrupted")
    assert [batch[0].first.shape for batch in images] == [(50, 75, 1, 8, 8)] * 2
    assert images[0][0].first.dtype == torch.uint8
    for split in ("validation", "test"):
        again = evaluate(digits, evaluator, cache=cache, split=split)["corruption_accuracy"]
        assert again.value == found.value  # the fixture's splits are the same images


@pytest.mark.slow
def test_images_that_are_not_kept_are_made_the_same(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = evaluate(digits, Corruption(**FEW), other())
    monkeypatch.setattr("autoprune_evaluators._perturbed._KEPT_BYTES", 1)
    assert evaluate(digits, Corruption(**FEW), other()) == kept
    assert evaluate(digits, Corruption(**FEW, seed=1), other()) != kept


@pytest.mark.slow
def test_large_batches_are_made_in_parts(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, cache = Corruption(**{**FEW, "kinds": ("contrast", "jpeg")}), {}
    whole = evaluate(digits, evaluator, other())
    monkeypatch.setattr("autoprune_evaluators.corruptions._AT_ONCE", 10 * 4 * 64)
    assert evaluate(digits, evaluator, other(), cache=cache) == whole
    (images,) = (value for key, value in cache.items() if key[0] == "autoprune_evaluators.corrupted")
    assert [len(batch[0]) for batch in images] == [10] * 6


def of_images(images: Tensor, bounds: tuple[float, float] | None = (0.0, 1.0), **changes: Any) -> Any:
    ctx = context(images, torch.zeros(len(images), dtype=torch.int64), Classification(), **changes)
    return replace(ctx, data=replace(ctx.data, bounds=bounds))


def test_models_see_corrupted_images_between_the_datas_bounds() -> None:
    seen: list[Tensor] = []

    class Watch(Answer):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
            seen.append(args[0])
            return args[0].flatten(1)[:, :2]

    images = torch.rand(5, 1, 8, 8)
    for low, high in ((0.0, 1.0), (-2.0, 6.0)):
        ctx = of_images(low + (high - low) * images, bounds=(low, high), of_dense=True)
        Corruption(kinds=("contrast",), severities=(3,)).evaluate(Watch(), ctx)
    assert (seen[1] - (8 * seen[0] - 2)).abs().max() < 0.04
    assert (seen[0].std((2, 3)) < 0.5 * images.std((2, 3)).max()).all()


@pytest.mark.parametrize(
    ("shape", "told"), [((9, 64), r"\(1, 64\)"), ((9, 4, 8, 8), r"\(1, 4, 8, 8\)"), ((9, 3, 6, 8), r"\(1, 3, 6, 8\)")]
)
def test_what_is_no_image_is_refused(shape: tuple[int, ...], told: str) -> None:
    ctx = of_images(torch.rand(shape))
    message = str(Corruption().refuses(ctx.data))
    assert message.startswith("corruption changes images of 1 or 3 channels and 8 pixels or more, (N, C, H, W)")
    with pytest.raises(DataError, match="corruption changes images of 1 or 3 channels"):
        Corruption().evaluate(Answer(), ctx)


def test_inputs_without_bounds_or_outside_them_are_refused() -> None:
    images = torch.rand(9, 3, 8, 8)
    assert "this data has none" in str(Corruption().refuses(of_images(images, bounds=None).data))
    assert Corruption().refuses(of_images(images).data) is None
    with pytest.raises(DataError, match=r"^corruption keeps to the data's bounds, 0 to 1, but inputs go from"):
        Corruption().evaluate(Answer(), of_images(2 * images))


def test_tasks_without_right_and_wrong_have_no_accuracy() -> None:
    images = torch.rand(9, 3, 8, 8)
    ctx = replace(of_images(images), task=Regression())
    split = Split.of_tensors(images, images)
    ctx = replace(ctx, data=replace(ctx.data, train=split, validation=split, test=split))
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        Corruption(kinds=("contrast",), severities=(1,)).evaluate(Answer(), ctx)


@pytest.mark.parametrize(
    "wrong", [{"kinds": ()}, {"kinds": ("rain",)}, {"kinds": ("fog", "fog")}, {"severities": (0,)}, {"severities": ()}]
)
def test_options_name_corruptions_and_severities_that_are(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Corruption(**wrong)


def test_metrics_are_declared() -> None:
    assert [metric.name for metric in Corruption().produces()] == ["corruption_accuracy"]
    each = Corruption(kinds=("shot-noise", "jpeg"), each=True, label="x").produces()
    assert [metric.name for metric in each] == [
        "corruption_accuracy_x", "corruption_accuracy_shot_noise_x", "corruption_accuracy_jpeg_x",
    ]  # fmt: skip
