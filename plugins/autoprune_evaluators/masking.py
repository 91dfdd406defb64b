"""Whether a robust accuracy is to be believed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Cost, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals
from autoprune_evaluators._attacking import RandomAttackEvaluator

if TYPE_CHECKING:
    from torch import nn

    from autoprune_evaluators._attack import Attack

log = logging.getLogger("autoprune")


class Masking(RandomAttackEvaluator):
    """Counts signs, of six, that a classifier of images hides its gradients, so that it only looks robust.

    It is robust at a huge epsilon; FGSM, the Square attack, or the difference of logits ratio is stronger than PGD by
    more than 2 points; over 5 % of the samples have no input gradient, or hang on the others of their batch. Meant for
    the models of a front; which signs they are goes to the log. Athalye et al., *Obfuscated gradients give a false
    sense of security*, arXiv:1802.00420; Carlini et al., *On evaluating adversarial robustness*, arXiv:1902.06705.
    """

    name = "masking"
    metrics = (
        Metric("masking_flags", "flags", "minimize", Cost.ATTACK, "Signs of masked gradients, of six; 0 is honest."),
    )

    steps: int = Field(default=10, ge=1, description="Gradient steps of PGD.")
    queries: int = Field(default=200, ge=1, description="Forward passes of each sample in the Square attack.")

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack in five ways and compare.

        Raises:
            TrialError: Samples are no images with one of three classes or more; the outputs have no gradient at all.
        """
        from autoprune_evaluators._masking import Evidence, masking_flags, oddities
        from autoprune_evaluators.robustness import Fgsm, Pgd
        from autoprune_evaluators.square import Square

        model, ctx = self.focused(model, ctx)
        bounds = self.bounds(ctx.data)
        epsilon = self._calibrated(ctx) if self.epsilon == "auto" else self.epsilon
        options = {"epsilon": epsilon, "norm": self.norm}
        random = {"restarts": self.restarts, "seed": self.seed}

        def left(runs: Sequence[Attack]) -> float:
            return intervals.share_of(*self._withstood(model, ctx, runs)).value

        inputs = next(iter(self.batches(ctx)))[0].first
        huge = (bounds[1] - bounds[0]) / 2 * (1.0 if self.norm == "linf" else math.sqrt(inputs[0].numel()))
        pgd = left(self._runs(epsilon, bounds))  # refuses inputs outside their bounds before the rest
        zero, dependent = oddities(model, self.batches(ctx), task=ctx.task)
        ratio = Pgd(**options, **random, steps=self.steps, loss="dlr")
        found = Evidence(
            pgd=pgd,
            huge=left(self._runs(max(huge, epsilon), bounds)),
            fgsm=left(Fgsm(**options)._runs(epsilon, bounds)),
            dlr=left(ratio._runs(epsilon, bounds)),
            square=left(Square(**options, **random, queries=self.queries)._runs(epsilon, bounds)),
            zero_gradients=zero,
            dependent=dependent,
        )
        flags = masking_flags(found)
        if flags:
            log.info("masking: %s", "; ".join(flags))
        return {"masking_flags": float(len(flags))} | ({"epsilon": epsilon} if self.epsilon == "auto" else {})

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators.robustness import Pgd

        attack = Pgd(epsilon=epsilon, norm=self.norm, steps=self.steps, restarts=self.restarts, seed=self.seed)
        return attack._runs(epsilon, bounds)
