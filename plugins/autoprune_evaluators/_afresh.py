"""Models that an attacker trains: the dense architecture with weights drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoprune import TrialError
from autoprune.plugin import EvaluationContext, Split, TransformContext
from autoprune.toolkit.training import Loss, Training, train


def untrained(ctx: EvaluationContext, seed: int, *, what: str) -> nn.Module:
    """The dense architecture with weights drawn anew; the global generators stay as they are.

    Sources may build models that have learnt something. What two seeds have in common was not drawn, so modules with
    such weights draw them now; a constant may stay, and so may what the dense model has learnt otherwise since.

    Args:
        ctx: Builds it.
        seed: Of the weights.
        what: Who asks, for the message.

    Raises:
        TrialError: A module does not say how it begins: some of what the model has learnt would stay.
    """
    model, other, learnt = ctx.build(seed), _tensors(ctx.build(seed + 1)), _tensors(ctx.dense)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for place, module in model.named_modules():
            kept = {
                name: tensor
                for name, tensor in _tensors(module, place, recurse=False).items()
                if torch.equal(tensor, other[name]) and bool((tensor != tensor.flatten()[:1]).any())
            }
            if kept and (reset := _reset(module)) is not None:
                reset()
            elif any(isinstance(each, nn.Parameter) and torch.equal(each, learnt[name]) for name, each in kept.items()):
                raise TrialError(
                    f"{what}: module {_bare(place)} ({type(module).__name__}) has weights of its own and no"
                    " reset_parameters(), so no untrained copy of the model can be made: give it that method"
                )
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # what is frozen in the model is to be learnt here
    return model


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
        model = untrained(ctx, seed, what=what)
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


def _tensors(module: nn.Module, place: str = "", *, recurse: bool = True) -> dict[str, torch.Tensor]:
    """Parameters and buffers of numbers that may be learnt, by name."""
    named = (*module.named_parameters(place, recurse), *module.named_buffers(place, recurse))
    return {name: tensor for name, tensor in named if tensor.is_floating_point()}


def _bare(place: str) -> str:
    """A module's name in the bare network, which evaluators get as ``network``; of one head as ``model.network``."""
    return place.removeprefix("model.network").removeprefix("network").removeprefix(".") or "of the model"


def _reset(module: nn.Module) -> Callable[[], object] | None:
    """What draws a module's own weights anew."""
    found = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)  # attention's
    return found if callable(found) else None
