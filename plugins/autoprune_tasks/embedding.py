"""Vectors that are to stay where the dense model puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune.plugin.data import mapped
from autoprune.plugin.task import found_at, shapes
from autoprune.toolkit.files import near

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_TAKES = "embedding takes vectors (N, D), or (N, T, D) of several places each, D of 2 or more"


class Embedding(Task):
    """Vectors are to point where the dense model's do: outputs (N, D), or (N, T, D) for T places, that need no targets.

    The loss is 1 - the cosine to the dense model's vector, the mean over places, and so is the distance of two models;
    nothing is right or wrong. A model of two towers has a vector in several places of what it returns, over which the
    mean is taken, too.
    """

    name = "embedding"
    targets_are: ClassVar[Literal["the data's", "the dense model's"]] = "the dense model's"

    output: str = Field(
        default="",
        description="Where the vectors, or the towers, stand in what the model returns; found if there is one answer.",
    )
    towers: tuple[str, ...] = Field(
        default=(), description="Where each tower's vectors stand, if there are several: [image_embeds, text_embeds]."
    )

    @field_validator("towers")
    @classmethod
    def _distinct(cls, towers: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [tower for tower in towers if towers.count(tower) > 1]:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return towers

    def pick(self, returned: Any) -> Any:
        """The vectors, (N, …, D), by the name of their tower if there are towers.

        Raises:
            TrialError: They are not there.
        """
        if not self.towers:
            return super().pick(returned)
        stands = found_at(returned, self.output) if self.output else returned
        return {tower: self.part(tower).pick(stands) for tower in self.towers}

    def part(self, name: str) -> Task:
        """The task of one tower.

        Raises:
            TrialError: There is no such tower.
        """
        if name not in self.towers:
            raise TrialError(f"embedding has no tower {name!r}{near(name, self.towers)}")
        return Embedding(output=name)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """1 - the cosine to the dense model's vectors, the mean over places and towers, (N,).

        Args:
            outputs: Vectors, (N, D) or (N, T, D), or those of each tower by its name.
            targets: The dense model's for the same inputs.
        """
        from autoprune_tasks._rows import precise

        return self._distances(mapped(precise, outputs), mapped(precise, targets))

    def divergence(self, outputs: Any, dense: Any, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """The same in float64, (N,): half the square of a small angle."""
        return self._distances(*(mapped(lambda vectors: vectors.double(), each) for each in (outputs, dense)))

    def agreement(self, outputs: Any, dense: Any, targets: Any = None) -> Tensor:  # noqa: ARG002  all count
        """The mean cosine, or 0 if it is negative, (N,)."""
        return (1 - self.divergence(outputs, dense)).clamp(0, 1).float()

    def refuses(self, outputs: Any, targets: Any, data: Data) -> str | None:  # noqa: ARG002  targets are the outputs
        """Why outputs have no direction, and what to write; None when they have."""
        for tower, vectors in outputs.items() if self.towers else (("", outputs),):
            if fault := _undirected(vectors):
                return f"{tower}: {fault}" if tower else fault
        return None

    def _distances(self, outputs: Any, dense: Any) -> Tensor:
        import torch
        from torch.nn.functional import cosine_similarity

        pairs = [(outputs[tower], dense[tower]) for tower in self.towers] if self.towers else [(outputs, dense)]
        cosines = [cosine_similarity(ours, theirs, dim=-1).reshape(len(ours), -1).mean(1) for ours, theirs in pairs]
        return (1 - torch.stack(cosines).mean(0)).clamp_min(0)  # rounding may push equals below it


def _undirected(vectors: Tensor) -> str | None:
    came = f"outputs are {shapes(vectors)}; {_TAKES}"
    if not vectors.is_floating_point():
        return f"{came}: return them as floats"
    if vectors.dim() == 4:
        return f"{came}: pool the feature maps in the model, or say by output where their pooled vectors stand"
    if vectors.dim() not in (2, 3) or vectors.shape[-1] < 2:
        return f"{came}: for numbers write task: {{use: regression}}, with targets"
    if bool((vectors == 0).all(-1).any()):
        return f"{came}; one of the dense model's is all zeros and has no direction: return others, or write a task"
    return None
