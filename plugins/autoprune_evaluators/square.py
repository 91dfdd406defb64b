"""The Square attack: a black box that is asked for outputs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune_evaluators._attacking import RandomAttackEvaluator

if TYPE_CHECKING:
    from autoprune_evaluators._attack import Attack


class Square(RandomAttackEvaluator):
    """Accuracy under the Square attack: a random search that changes squares of an image and needs no gradient.

    It breaks models that only hide their gradients, and works on models without any. A sample is lost as soon as one
    query is misclassified; every model of a study meets the same squares. Andriushchenko et al., *Square Attack: a
    query-efficient black-box adversarial attack via random search*, arXiv:1912.00049.
    """

    name = "square"
    needs = frozenset({"data", "labels"})

    queries: int = Field(default=500, ge=1, description="Forward passes of each sample in one run.")
    p_init: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the image that the first squares cover; 0.8 as in AutoAttack, 0.05 in the paper.",
    )

    def _runs(self, epsilon: float, bounds: tuple[float, float]) -> Sequence[Attack]:
        from autoprune_evaluators._square import SquareL2, SquareLinf

        attack = SquareLinf if self.norm == "linf" else SquareL2
        return [
            attack(
                epsilon=epsilon,
                queries=self.queries,
                p_init=self.p_init,
                bounds=bounds,
                seed=self.seed + 1 + run,  # not the seed of the first proposals
            )
            for run in range(self.restarts)
        ]

    def final(self) -> Self:
        """Four times the queries."""
        return self.model_copy(update={"queries": 4 * self.queries})
