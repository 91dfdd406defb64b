"""AutoAttack, the field's yardstick, as its authors' package has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from autoprune.plugin import EvaluationContext, Measured
from autoprune_evaluators._attacking import AttackEvaluator

if TYPE_CHECKING:
    from torch import nn

    from autoprune_evaluators._attack import Attack

Member = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]


def _some(members: tuple[Member, ...]) -> tuple[Member, ...]:
    if not members or len(set(members)) < len(members):
        raise ValueError("name one attack or more, each once")
    return members


class AutoAttack(AttackEvaluator):
    """Accuracy of a classifier of images under AutoAttack, an ensemble of attacks that has nothing to tune.

    Each member attacks what the ones before it left. It takes hundreds of forward and backward passes per sample, so it
    is for a few models: for searches there is ``pgd`` or ``apgd``. The two members of the default decide nearly
    everything; the standard has ``[apgd-ce, apgd-t, fab-t, square]``. ``epsilon: auto`` is the one that ``pgd`` finds.
    Croce and Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks*,
    arXiv:2003.01690. It needs the package pyautoattack: ``pip install 'autoprune[pyautoattack]'``.
    """

    name = "autoattack"

    attacks: Annotated[tuple[Member, ...], AfterValidator(_some)] = Field(
        default=("apgd-ce", "apgd-t"),
        description="Members, one after the other: apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square.",
    )
    seed: int = Field(default=0, ge=0, description="Seeds what is random, the same for every model of a study.")

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples.

        Raises:
            DataError: The package pyautoattack is not installed.
            TrialError: Samples are no images with one of several classes, or no epsilon is found.
        """
        from autoprune.toolkit.packages import optional

        optional("pyautoattack")
        return super().evaluate(model, ctx)

    def _calibrated(self, ctx: EvaluationContext) -> float:
        from autoprune_evaluators.robustness import Pgd

        shared = {name: getattr(self, name) for name in ("norm", "batch_size", "head", "seed")}
        return Pgd(epsilon="auto", **shared)._calibrated(ctx)

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators._autoattack import ensemble
        from autoprune_evaluators._foreign import BatchAttack

        run = ensemble(self.attacks, epsilon=epsilon, norm=self.norm, bounds=bounds, seed=self.seed)
        return [BatchAttack(name=self.name, run=run, ball=self.ball(epsilon), bounds=bounds, seed=self.seed)]
