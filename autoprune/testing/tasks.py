"""Kit for tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from autoprune.plugin import Targets, Task
from autoprune.testing.components import BenchConformance

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.testing.bench import Bench


class TaskConformance(BenchConformance):
    """Tests of a task, on outputs and targets that fit it."""

    contract = Task

    @pytest.fixture
    def outputs(self) -> Tensor:
        """Outputs of a made-up model, N ≥ 2 samples first: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `outputs`")

    @pytest.fixture
    def targets(self) -> Targets:
        """Targets of as many samples: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `targets`")

    def test_takes_its_own(self, component: Task, bench: Bench, outputs: Tensor, targets: Targets) -> None:
        """It refuses nothing that fits it."""
        assert component.refuses(outputs, targets, replace(bench.data, classes=None)) is None

    def test_loss_has_a_gradient(self, component: Task, outputs: Tensor, targets: Targets) -> None:
        """Losses are (N,), finite, and training them moves the outputs."""
        asked = outputs.clone().requires_grad_()
        for loss in (component.loss(asked, targets), component.training_loss(asked, targets)):
            assert loss.shape == (len(outputs),), f"losses have the shape {tuple(loss.shape)}"
            (gradient,) = torch.autograd.grad(loss.sum(), asked, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient.any(), "the loss does not depend on the outputs"

    def test_divergence_is_a_distance_from_the_dense_model(self, component: Task, outputs: Tensor) -> None:
        """It is (N,), 0 of the same outputs, and larger the more they differ."""
        noise = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)) * outputs.std()
        near, far = (component.divergence(outputs + scale * noise, outputs) for scale in (0.05, 0.5))
        assert near.shape == (len(outputs),)
        assert component.divergence(outputs, outputs).abs().max() < 1e-9
        assert 0 < near.mean() < far.mean()

    def test_agreement_is_a_share(self, component: Task, outputs: Tensor) -> None:
        """It is (N,), in [0, 1], and 1 of the same outputs."""
        assert (component.agreement(outputs, outputs) == 1).all()
        other = component.agreement(outputs.flip(0) + outputs.std(), outputs)
        assert other.shape == (len(outputs),)
        assert ((other >= 0) & (other <= 1)).all()

    def test_correct_is_a_share(self, component: Task, outputs: Tensor, targets: Targets) -> None:
        """It is (N,) in [0, 1], or nothing is right or wrong."""
        correct = component.correct(outputs, targets)
        if correct is not None:
            assert correct.shape == (len(outputs),)
            assert ((correct >= 0) & (correct <= 1)).all()
