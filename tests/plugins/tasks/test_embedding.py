"""Embeddings against numpy's cosine, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics.pairwise import paired_cosine_distances
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Data, Split
from autoprune.testing import Bench
from autoprune_tasks.embedding import Embedding

from .cases import noise

TASK = Embedding()
TOWERS = Embedding(towers=("image_embeds", "text_embeds"))


@pytest.fixture
def data() -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), {})
    return Data(split, split, split)


@pytest.mark.parametrize("shape", [(20, 6), (20, 4, 6), (1, 6), (1, 4, 6)])
def test_the_loss_is_the_mean_cosine_distance(shape: tuple[int, ...]) -> None:
    ours, dense = noise(*shape), noise(*shape, seed=1)
    places = [
        np.mean(paired_cosine_distances(a.reshape(-1, 6), b.reshape(-1, 6)))
        for a, b in zip(ours.double().numpy(), dense.double().numpy(), strict=True)
    ]
    assert TASK.loss(ours, dense).tolist() == pytest.approx(places, rel=1e-5)
    divergence = TASK.divergence(ours, dense)
    assert divergence.dtype == torch.float64
    assert divergence.tolist() == pytest.approx(places, rel=1e-12)
    assert TASK.agreement(ours, dense).tolist() == pytest.approx([max(0.0, 1 - each) for each in places], abs=1e-7)
    assert TASK.correct(ours, dense) is None
    assert TASK.counted(ours, dense) is None


def test_lengths_do_not_matter_and_equals_are_equal() -> None:
    dense = noise(50, 16)
    assert TASK.agreement(3 * dense, dense).tolist() == [1.0] * 50
    assert TASK.divergence(3 * dense, dense).max() < 1e-15
    assert TASK.agreement(-dense, dense).tolist() == [0.0] * 50
    assert TASK.divergence(-dense, dense).tolist() == pytest.approx([2.0] * 50)


def test_divergence_is_quadratic_in_small_changes() -> None:
    dense, step = noise(50, 16).double(), 1e-4 * noise(50, 16, seed=1).double()
    small, half = (float(TASK.divergence(dense + s * step, dense).sum()) for s in (1, 0.5))
    assert small / half == pytest.approx(4, rel=1e-3)


def test_the_loss_has_a_gradient_also_where_a_vector_vanished() -> None:
    ours, dense = noise(3, 6), noise(3, 6, seed=1)
    ours[1] = 0
    loss = TASK.loss(ours.requires_grad_(), dense)
    assert loss[1] == 1
    (gradient,) = torch.autograd.grad(loss.sum(), ours)
    assert gradient.isfinite().all()
    length = ours.detach().norm(dim=1, keepdim=True)
    unit, theirs = ours.detach() / length, dense / dense.norm(dim=1, keepdim=True)
    by_hand = -(theirs - (unit * theirs).sum(1, keepdim=True) * unit) / length
    assert torch.allclose(gradient[[0, 2]], by_hand[[0, 2]], atol=1e-6)


def test_two_towers_are_the_mean_of_both() -> None:
    ours = {"image_embeds": noise(8, 6), "text_embeds": noise(8, 5, 4)}
    dense = {"image_embeds": noise(8, 6, seed=1), "text_embeds": noise(8, 5, 4, seed=2)}
    for ask, alone in ((TOWERS.loss, TASK.loss), (TOWERS.divergence, TASK.divergence)):
        each = [alone(ours[tower], dense[tower]) for tower in ours]
        assert torch.allclose(ask(ours, dense), (each[0] + each[1]) / 2)
    assert torch.allclose(TOWERS.agreement(ours, dense).double(), (1 - TOWERS.divergence(ours, dense)).clamp(0, 1))


def test_towers_are_found_in_what_the_model_returns() -> None:
    image, text, scores = noise(4, 6), noise(4, 6, seed=1), noise(4, 4)
    returned = SimpleNamespace(logits_per_image=scores, image_embeds=image, text_embeds=text)
    picked = TOWERS.pick(returned)
    assert list(picked) == ["image_embeds", "text_embeds"]
    assert picked["image_embeds"] is image
    assert Embedding(output="text_embeds").pick(returned) is text
    assert Embedding(towers=("0", "1.deep"), output="pair").pick({"pair": (image, {"deep": text})})["1.deep"] is text
    with pytest.raises(
        TrialError, match="there is no tensor at 'audio_embeds': the model returns a SimpleNamespace with"
    ):
        Embedding(towers=("audio_embeds",)).pick(returned)
    assert TOWERS.part("text_embeds").pick(returned) is text
    with pytest.raises(TrialError, match="no tower 'text_embed'; did you mean 'text_embeds'"):
        TOWERS.part("text_embed")
    with pytest.raises(ValidationError, match="'a' stands there twice"):
        Embedding(towers=("a", "a"))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_more(kind: torch.dtype) -> None:
    ours, dense = noise(9, 6).to(kind), noise(9, 6, seed=1).to(kind)
    assert torch.equal(TASK.loss(ours, dense), TASK.loss(ours.float(), dense.float()))
    assert torch.equal(TASK.divergence(ours, dense), TASK.divergence(ours.float(), dense.float()))


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (torch.ones(4, 8, dtype=torch.int64), ["(4, 8) int64", "as floats"]),
        (torch.ones(4, 8, 7, 7), ["(4, 8, 7, 7) float32", "pool the feature maps"]),
        (torch.ones(4), ["(4,) float32", "task: {use: regression}"]),
        (torch.ones(4, 1), ["(4, 1) float32", "task: {use: regression}"]),
        (torch.eye(4)[:, :3], ["one of the dense model's is all zeros"]),
    ],
)
def test_what_has_no_direction_is_refused_in_one_line(outputs: Tensor, told: list[str], data: Data) -> None:
    reason = TASK.refuses(outputs, {}, data)
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason
    assert (
        str(TOWERS.refuses({"image_embeds": noise(4, 6), "text_embeds": outputs}, {}, data)) == f"text_embeds: {reason}"
    )


@pytest.mark.parametrize("targets", [{}, None, torch.zeros(4), {"a": torch.zeros(4)}])
def test_targets_of_any_kind_are_not_looked_at(targets: Any, data: Data) -> None:
    assert TASK.refuses(noise(4, 6), targets, data) is None


class TwoTowers(nn.Module):
    """Embeds two inputs apart from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        self.text = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, pixels: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        return {"image_embeds": self.image(pixels), "text_embeds": self.text(tokens)}


def test_the_data_s_targets_are_what_the_dense_model_puts_out() -> None:
    torch.manual_seed(0)
    network = TwoTowers().eval()
    split = Split.of_tensors({"pixels": noise(20, 6), "tokens": noise(20, 5)}, {})
    bench = Bench(network, Data(split, split, split), task=TOWERS)
    inputs, targets = bench.data.train.fetch(torch.arange(7))
    with torch.no_grad():
        expected = inputs.feed(network)
    assert targets.keys() == expected.keys()
    assert all(torch.allclose(targets[tower], expected[tower], atol=1e-6) for tower in targets)
    dense = TOWERS.pick(inputs.feed(bench.predictor(network)))
    assert float(TOWERS.loss(dense, targets).detach().abs().max()) < 1e-6
    assert TOWERS.refuses(dense, targets, bench.data) is None
