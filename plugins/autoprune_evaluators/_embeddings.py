"""Where a model looks tokens up, and an attack that moves what it finds there.

Shapes use: N samples of T tokens (any shape may stand for T), D numbers of a token's embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Inputs, Task
from autoprune.toolkit.balls import L2
from autoprune.toolkit.samples import losses, right_shares
from autoprune_evaluators._attack import input_gradient, picked


@dataclass(frozen=True, kw_only=True)
class EmbeddingAttack:
    """Projected gradient ascent on the loss; each token's embedding moves by a share of its own length at most."""

    epsilon: float
    """That share."""
    steps: int
    bounds: ClassVar[None] = None

    def start(self, origin: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002  nothing is random
        """Nothing."""
        return torch.zeros_like(origin)

    def perturb(
        self,
        model: nn.Module,
        inputs: Inputs,
        targets: Any,
        start: Tensor,  # noqa: ARG002  as above
        *,
        task: Task,
    ) -> tuple[Tensor, Tensor]:
        """As of `Attack`; the tokens themselves stay as they are.

        Raises:
            TrialError: The model looks the tokens up in no one module, or the loss has no gradient to what it finds.
        """
        tokens, found = inputs.first, token_embedding(model, inputs)
        ball, step_size = L2(self.epsilon), 2.5 * self.epsilon / self.steps
        # In units of each token's own length.
        moved = torch.zeros(*tokens.shape, found.embedding_dim, device=tokens.device, dtype=found.weight.dtype)
        worst, standing = torch.ones(len(tokens), device=tokens.device), torch.arange(len(tokens), device=tokens.device)
        # A recurrent layer of cuDNN has no gradient in eval().
        with torch.backends.cudnn.flags(enabled=False):
            for step in range(self.steps + 1):
                here = moved[standing].requires_grad_(step < self.steps)
                with _moved(found, tokens[standing], here):
                    outputs = inputs[standing].feed(model)
                right = right_shares(task, outputs, picked(targets, standing)).detach().to(worst)
                worst[standing] = worst[standing].minimum(right)
                hit = right > 0
                standing = standing[hit]
                if step == self.steps or not len(standing):
                    break
                loss = losses(task, picked(outputs, hit), picked(targets, standing))
                gradient = input_gradient(loss.sum(), here)[hit]
                rows = here.detach()[hit].flatten(0, -2)  # each token has a ball of its own
                ahead = ball.project(rows + step_size * ball.steepest(gradient.flatten(0, -2)))
                moved[standing] = ahead.view(gradient.shape)
        return tokens, worst


def token_embedding(model: nn.Module, inputs: Inputs) -> nn.Embedding:
    """The module in which a model looks up the tokens that its first input is.

    Raises:
        TrialError: None does, or several do.
    """
    tokens = inputs.first
    takers: dict[str, nn.Embedding] = {}

    def watch(name: str, module: nn.Embedding) -> Any:
        def taken(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if _is(tokens, args, kwargs):
                takers[name] = module

        return module.register_forward_pre_hook(taken, with_kwargs=True)

    hooks = [watch(name, each) for name, each in model.named_modules() if isinstance(each, nn.Embedding)]
    try:
        with torch.no_grad():
            inputs.feed(model)
    finally:
        for hook in hooks:
            hook.remove()
    if not takers:
        raise TrialError(
            "no nn.Embedding of the model gets the tokens of the first input as they are, so that there are no"
            " embeddings to attack"
        )
    if len(takers) > 1:
        raise TrialError(f"several nn.Embedding get the tokens of the first input, {', '.join(takers)}: which counts?")
    return next(iter(takers.values()))


@contextmanager
def _moved(embedding: nn.Embedding, tokens: Tensor, by: Tensor) -> Iterator[None]:
    """Move what is looked up for these tokens, (N, T), by (N, T, D) in units of its own length; nothing for others."""

    def changed(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], vectors: Tensor) -> Tensor:
        if not _is(tokens, args, kwargs):
            return vectors
        lengths: Tensor = vectors.detach().norm(dim=-1, keepdim=True)
        return vectors + by * lengths

    hook = embedding.register_forward_hook(changed, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _is(tokens: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    given = args[0] if args else kwargs.get("input")
    return isinstance(given, Tensor) and given.shape == tokens.shape and torch.equal(given, tokens)
