"""A large vocabulary in parts: the same numbers and gradients as at once, and little kept for the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from autoprune_tasks import _rows

from .cases import classes, noise

ROWS, CLASSES = 50, 9


@pytest.fixture(params=[4 * CLASSES, CLASSES - 1, 2**20], ids=["parts", "single rows", "at once"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "_AT_ONCE", request.param)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropies_and_their_gradients_are_pytorch_s(smoothing: float) -> None:
    scores, wanted = noise(ROWS, CLASSES).requires_grad_(), classes(ROWS, 2, count=CLASSES, ignored=None)[:, 0]
    found = _rows.cross_entropies(scores, wanted, label_smoothing=smoothing)
    expected = cross_entropy(scores, wanted, reduction="none", label_smoothing=smoothing)
    same_with_gradients(found, expected, scores)


@pytest.mark.usefixtures("parts")
def test_relative_entropies_and_their_gradients_are_pytorch_s() -> None:
    scores, dense = noise(ROWS, CLASSES).requires_grad_(), noise(ROWS, CLASSES, seed=1)
    found = _rows.relative_entropies(scores, dense)
    ours, theirs = (log_softmax(each.double(), 1) for each in (scores, dense))
    same_with_gradients(found, kl_div(ours, theirs, reduction="none", log_target=True).sum(1), scores)
    with torch.inference_mode():
        assert torch.allclose(_rows.relative_entropies(scores, dense), found.detach())


def same_with_gradients(found: Tensor, expected: Tensor, scores: Tensor) -> None:
    assert torch.allclose(found, expected)
    weights = noise(ROWS, seed=5).to(found.dtype)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), scores)[0] for each in (found, expected))
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.usefixtures("parts")
def test_of_no_row_there_is_nothing() -> None:
    none = torch.zeros(0, CLASSES)
    assert _rows.cross_entropies(none, torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert _rows.relative_entropies(none, none).shape == (0,)
    assert _rows.same_classes(none, none).shape == (0,)
    assert _rows.right_classes(none, torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("of_rows", [_rows.relative_entropies, lambda s, d: _rows.cross_entropies(s, d.argmax(1))])
def test_what_is_kept_for_the_way_back_is_no_more_than_the_scores(
    of_rows: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, and twice: that is what distillation of a vocabulary of 50,000 would not fit for."""
    monkeypatch.setattr(_rows, "_AT_ONCE", 100 * 50)
    scores, dense = noise(1000, 50).requires_grad_(), noise(1000, 50, seed=1)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        of_rows(scores, dense)
    extra = sum(kept.values()) - sum(kept.get(each.untyped_storage().data_ptr(), 0) for each in (scores, dense))
    assert extra <= 0.1 * scores.nbytes
