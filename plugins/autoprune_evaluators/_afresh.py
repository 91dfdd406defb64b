"""Models that an attacker trains: the dense architecture with weights drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoprune import TrialError
from autoprune.plugin import EvaluationContext, Split, TransformContext
from autoprune.toolkit.copies import duplicate
from autoprune.toolkit.training import Loss, Training, train


def untrained(model: nn.Module, seed: int, *, what: str) -> nn.Module:
    """A copy whose layers drew their weights anew; the global generators stay as they are.

    Args:
        model: What predicts, as evaluators get it; ``model.network`` is the bare network.
        seed: Of the weights.
        what: Who asks, for the message.

    Raises:
        TrialError: A module does not say how it begins: some of what the model has learnt would stay.
    """
    copied = duplicate(model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in copied.named_modules():
            if (reset := _reset(module)) is not None:
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise TrialError(
                    f"{what}: module {name.removeprefix('network.')} ({type(module).__name__}) has weights of its own"
                    " and no reset_parameters(), so no untrained copy of the model can be made: give it that method"
                )
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # what is frozen in the model is to be learnt here
    return copied


def trained(
    ctx: EvaluationContext,
    samples: Split,
    options: Training,
    *,
    seed: int,
    what: str,
    head: str = "",
    loss: Loss | None = None,
) -> nn.Module:
    """A model of the dense architecture that was trained from the start, in ``eval()``.

    Args:
        ctx: The dense model, the task, the device.
        samples: What it is trained on.
        options: How long and how.
        seed: Of its first weights and of the batches.
        what: Who asks, for messages.
        head: Of several outputs by name, the one whose targets count.
        loss: What is minimised; the task's training loss if None.

    Raises:
        TrialError: No untrained copy can be made, or the training diverged.
    """
    # In a search gradients may be off, and what inference mode makes takes no part in them.
    with torch.inference_mode(mode=False), torch.enable_grad():
        model = untrained(ctx.dense, seed, what=what)
        predictor: Callable[[nn.Module], nn.Module] = lambda _: model  # noqa: E731  it is wrapped already
        course = TransformContext(
            device=ctx.device,
            seed=seed,
            data=replace(ctx.data, train=_of_head(samples, head) if head else samples),
            task=ctx.task,
            dense=ctx.dense,
            predictor=predictor,
        )
        train(model, course, options, loss=loss)
    return model.eval()


def _of_head(split: Split, head: str) -> Split:
    def read(index: torch.Tensor) -> tuple[Any, Any]:
        inputs, targets = split.fetch(index)
        return inputs, targets[head]

    return Split(len(split), read)


def _reset(module: nn.Module) -> Callable[[], object] | None:
    """What draws a module's own weights anew."""
    found = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)  # attention's
    return found if callable(found) else None
