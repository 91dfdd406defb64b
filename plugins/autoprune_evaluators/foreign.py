"""Any attack of Foolbox or ART."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune.plugin import Data, EvaluationContext, Measured
from autoprune_evaluators._attacking import ROBUST_ACCURACY, BoundedEvaluator, Distance

if TYPE_CHECKING:
    from torch import nn


class ForeignAttack(BoundedEvaluator):
    """Accuracy under an attack of Foolbox or ART: ``{use: foreign-attack, attack: "foolbox.attacks:LinfPGD", …}``.

    What the attack gives is checked: it has to be within epsilon and the data's bounds. An attack that knows no
    epsilon, but looks for the smallest perturbation, succeeds where that is within epsilon. The class is made with
    ``args``; of ART's options ``eps`` and ``norm`` are set. It is looked up in the spec's own folder first, then among
    the installed modules, and runs as code: name only what you trust. Rauber et al., *Foolbox Native*, JOSS 5 (2020);
    Nicolae et al., *Adversarial Robustness Toolbox*, arXiv:1807.01069.
    """

    name = "foreign-attack"
    metrics = (ROBUST_ACCURACY,)

    attack: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="module:class, as in foolbox.attacks:LinfPGD or art.attacks.evasion:SquareAttack.",
    )
    epsilon: Distance = Field(
        description="Size of the perturbation in input units, before normalisation, as a number or a fraction: 2/255."
    )
    args: dict[str, Any] = Field(default={}, description="Options of the attack, by its library's names.")
    seed: int = Field(default=0, ge=0, description="Seeds what is random, the same for every model of a study.")

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        return self._too_large(self.epsilon, data) or super().refuses(data)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples.

        Raises:
            DataError: The attack cannot be found, or its library is not installed.
            TrialError: It is none, fails, or gives what is not within epsilon and bounds; or the task has not one class
                per sample.
        """
        from autoprune.toolkit.importing import importable
        from autoprune_evaluators._foreign import BatchAttack
        from autoprune_evaluators._libraries import found_run

        model, ctx = self.focused(model, ctx)
        bounds, folder = self.bounds(ctx.data), ctx.source.folder
        with importable(folder):
            run, keeps = found_run(
                self.attack, self.args, epsilon=self.epsilon, norm=self.norm, bounds=bounds, folder=folder
            )
            attack = BatchAttack(
                name=self.attack,
                run=run,
                ball=self.ball(self.epsilon),
                bounds=bounds,
                seed=self.seed,
                keeps_to_ball=keeps,
                folder=folder,
            )
            return {"robust_accuracy": self._robust_accuracy(model, ctx, [attack])}
