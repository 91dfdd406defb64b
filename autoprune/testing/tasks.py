"""Kit for tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from autoprune.plugin import Targets, Task
from autoprune.plugin.data import mapped
from autoprune.testing.components import BenchConformance
from autoprune.toolkit.samples import agreements, divergences

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.testing.bench import Bench


class TaskConformance(BenchConformance):
    """Tests of a task, on outputs and targets that fit it."""

    contract = Task

    @pytest.fixture
    def outputs(self) -> Any:
        """Outputs of a made-up model as the task picks them, N ≥ 2 samples first: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `outputs`")

    @pytest.fixture
    def targets(self) -> Targets:
        """Targets of as many samples, some of which do not count where the task knows such: override this."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `targets`")

    def test_takes_its_own(self, component: Task, bench: Bench, outputs: Any, targets: Targets) -> None:
        """It refuses nothing that fits it."""
        assert component.refuses(outputs, targets, replace(bench.data, classes=None)) is None

    def test_loss_has_a_gradient(self, component: Task, outputs: Any, targets: Targets) -> None:
        """Losses are (N,), finite, and training them moves the outputs."""
        asked = mapped(lambda tensor: tensor.clone().requires_grad_(), outputs)
        for loss in (component.loss(asked, targets), component.training_loss(asked, targets)):
            assert loss.shape == (_samples(outputs),), f"losses have the shape {tuple(loss.shape)}"
            assert loss.isfinite().all()
            for gradient in torch.autograd.grad(loss.sum(), _leaves(asked), retain_graph=True):
                assert gradient.isfinite().all()
                assert gradient.any(), "the loss does not depend on the outputs"

    def test_divergence_is_a_distance_from_the_dense_model(
        self, component: Task, outputs: Any, targets: Targets
    ) -> None:
        """It is (N,), 0 of the same outputs, and larger the more they differ; with targets and without."""
        near, far = (_moved(outputs, scale) for scale in (0.05, 0.5))
        for asked in (None, targets):
            small, large = (divergences(component, moved, outputs, asked) for moved in (near, far))
            assert small.shape == (_samples(outputs),)
            assert divergences(component, outputs, outputs, asked).abs().max() < 1e-9
            assert 0 < small.mean() < large.mean()

    def test_divergence_has_a_gradient(self, component: Task, outputs: Any, targets: Targets) -> None:
        """It can be trained, as distillation does."""
        asked = mapped(lambda tensor: tensor.clone().requires_grad_(), _moved(outputs, 0.5))
        total = divergences(component, asked, outputs, targets).sum()
        for gradient in torch.autograd.grad(total, _leaves(asked)):
            assert gradient.isfinite().all()
            assert gradient.any(), "the divergence does not depend on the outputs"

    def test_agreement_is_a_share(self, component: Task, outputs: Any, targets: Targets) -> None:
        """It is (N,), in [0, 1], and 1 of the same outputs."""
        assert (agreements(component, outputs, outputs, None) == 1).all()
        other = mapped(lambda tensor: tensor.flip(0) + tensor.std(), outputs)
        for asked in (None, targets):
            agreement = agreements(component, other, outputs, asked)
            assert agreement.shape == (_samples(outputs),)
            assert ((agreement >= 0) & (agreement <= 1)).all()

    def test_correct_is_a_share(self, component: Task, outputs: Any, targets: Targets) -> None:
        """It is (N,) in [0, 1], or nothing is right or wrong."""
        correct = component.correct(outputs, targets)
        if correct is not None:
            assert correct.shape == (_samples(outputs),)
            assert ((correct >= 0) & (correct <= 1)).all()

    def test_what_does_not_count_is_zero(self, component: Task, outputs: Any, targets: Targets) -> None:
        """How many elements count is (N,), 0 or more, and samples in which none does are 0 in everything."""
        counted = component.counted(outputs, targets)
        if counted is None:
            return
        assert counted.shape == (_samples(outputs),)
        assert (counted >= 0).all()
        assert counted.any(), "nothing counts of the fixtures' samples"
        none, other = counted == 0, _moved(outputs, 0.5)
        for found in (component.loss(outputs, targets), divergences(component, other, outputs, targets)):
            assert not found[none].any()
        if (correct := component.correct(outputs, targets)) is not None:
            assert not correct[none].any()

    def test_each_sample_is_by_itself(self, component: Task, outputs: Any, targets: Targets) -> None:
        """A sample alone has the loss that it has among others, and so with what is right and what counts."""
        first, wanted = (mapped(lambda tensor: tensor[:1], each) for each in (outputs, targets))
        for ask in (component.loss, component.correct, component.counted):
            among = ask(outputs, targets)
            if among is not None:
                alone = ask(first, wanted)
                assert alone is not None
                assert alone.shape == (1,)
                assert torch.allclose(alone, among[:1], rtol=1e-4, atol=1e-6)
        assert divergences(component, first, first, wanted).shape == (1,)


def _leaves(outputs: Any) -> list[Tensor]:
    return list(outputs.values()) if isinstance(outputs, Mapping) else [outputs]


def _samples(outputs: Any) -> int:
    return len(_leaves(outputs)[0])


def _moved(outputs: Any, scale: float) -> Any:
    """With noise of so many standard deviations."""
    generator = torch.Generator().manual_seed(0)
    return mapped(lambda t: t + scale * t.std() * torch.randn(t.shape, generator=generator), outputs)
