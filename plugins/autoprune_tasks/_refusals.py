"""What several tasks refuse alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoprune.plugin.task import shapes

if TYPE_CHECKING:
    from torch import Tensor


FOR_TOKENS = "for tokens, outputs (N, T, V), write task: {use: causal-lm}, {use: masked-lm} or {use: seq2seq-lm}"
FOR_POSITIONS = "for one class at each position, outputs (N, C, …), write task: {use: segmentation}"


def no_scores(outputs: Tensor, takes: str) -> str | None:
    """Why outputs are no scores; None when they are.

    Args:
        outputs: What the task picked.
        takes: What the task takes, for the message.
    """
    if outputs.is_floating_point():
        return None
    return f"outputs are {shapes(outputs)}; {takes}: return scores, not classes"


def no_single_tensor(targets: Any, takes: str) -> str | None:
    """Why targets are not one tensor, and which task takes them; None when they are.

    Args:
        targets: As the data source hands them out.
        takes: What the task takes, for the message.
    """
    import torch

    if isinstance(targets, torch.Tensor):
        return None
    if targets is None or (isinstance(targets, Mapping) and not targets):
        return (
            f"the data has no targets; {takes}: let the data give targets, or write task: {{use: embedding}} where it"
            " is enough to be like the dense model"
        )
    if isinstance(targets, Mapping):
        heads = ", ".join(f"{name}: {{use: …}}" for name in targets)
        return (
            f"targets are {shapes(targets)}; {takes}: for several by name write task: {{use: multi-head, heads:"
            f" {{{heads}}}}}, for one of them say so in the data"
        )
    return f"targets are {shapes(targets)}; {takes}: let the data give a tensor"


def ignored(counting: Tensor, ignore_index: int) -> str | None:
    """Why nothing of a batch counts; None where something does.

    Args:
        counting: Which elements do, bool of shape (N, P).
        ignore_index: The target of those that do not.
    """
    if counting.any():
        return None
    return (
        f"nothing of the first {len(counting)} samples counts: every target is {ignore_index}, the ignore_index; let"
        " the data give others, or say another ignore_index"
    )
