"""What a trial is asked to try."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoprune.plugin.results import Origin

Params = dict[str, float | str]
"""Knob to what was chosen."""
Precision = Literal["float32", "bfloat16"]


class Proposal(BaseModel):
    """What a trial is asked to try."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    origin: Origin
    params: Params
    scorers: dict[str, str] = {}
    """Label of the scorer that ranks it, per group; of the first one where a group is missing."""
    rivals: tuple[tuple[float, ...], ...] = ()
    """Losses of the front's members as it is handed to an executor: what it must not be dominated by."""
    dense: dict[str, float] = {}
    """What the dense model has of the metrics that are bound to a share of it."""
    dense_s: dict[str, float] = {}
    """Seconds that each stage of the dense model's trial took, evaluators among them."""
    precision: Precision = "float32"
    """Of forward passes without gradients."""
    final: bool = False
    """Whether the strategy's final version makes it: a member of the front, once more."""
