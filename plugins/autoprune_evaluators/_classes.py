"""What is of one class per sample alone."""

from __future__ import annotations

from typing import Any

import torch

from autoprune import TrialError
from autoprune.plugin import Task
from autoprune_evaluators._passes import came


def check_classes(metric: str, takes: str, task: Task, outputs: Any, targets: Any, *, mend: str = "") -> None:
    """Refuse what is no scores of classes, (N, C), with one class each, (N,).

    Args:
        metric: Its ``use``.
        takes: What it is of.
        task: The one that is measured.
        outputs: What the task picked of the model's.
        targets: Those of the data.
        mend: What to write instead.

    Raises:
        TrialError: They are something else.
    """
    told = came(metric, takes, task, outputs, targets)
    scores = isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1
    if not scores or targets.shape != outputs.shape[:1] or targets.is_floating_point():
        raise TrialError(f"{told}: {mend}" if mend else told)
