"""Where a model looks tokens up, and an attack that moves what it finds there.

Shapes use: N samples of T tokens, D numbers of a token's embedding, V tokens in all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autoprune import TrialError
from autoprune.plugin import Inputs, Task
from autoprune.toolkit.balls import L2
from autoprune.toolkit.samples import losses, right_shares
from autoprune_evaluators._attack import FromOrigin, input_gradient, picked


@dataclass(frozen=True, kw_only=True)
class EmbeddingAttack(FromOrigin):
    """Projected gradient ascent on the loss; each token's embedding moves by a share of its own length at most."""

    epsilon: float
    """That share."""
    steps: int
    bounds: ClassVar[None] = None

    def perturb(
        self,
        model: nn.Module,
        inputs: Inputs,
        targets: Any,
        start: Tensor,  # noqa: ARG002  it is the sample itself
        *,
        task: Task,
    ) -> tuple[Tensor, Tensor]:
        """As of `Attack`; the tokens themselves stay as they are.

        Raises:
            TrialError: The model looks the tokens up in no one table, or the loss has no gradient to what it finds.
        """
        tokens, table = inputs.first, embedding_table(model, inputs)
        ball, step_size = L2(self.epsilon), 2.5 * self.epsilon / self.steps
        # In units of each token's own length.
        moved = table.new_zeros(*tokens.shape, table.shape[1])
        worst, standing = torch.ones(len(tokens), device=tokens.device), torch.arange(len(tokens), device=tokens.device)
        # A recurrent layer of cuDNN has no gradient in eval().
        with torch.backends.cudnn.flags(enabled=False):
            for step in range(self.steps + 1):
                here = moved[standing].requires_grad_(step < self.steps)
                with _LookUps(tokens[standing], _moved(here)):
                    outputs = inputs[standing].feed(model)
                right = right_shares(task, outputs, picked(targets, standing)).detach().to(worst)
                worst[standing] = worst[standing].minimum(right)
                hit = right > 0
                standing = standing[hit]
                if step == self.steps or not len(standing):
                    break
                loss = losses(task, picked(outputs, hit), picked(targets, standing))
                gradient = input_gradient(loss.sum(), here, "token-attack")[hit]
                rows = here.detach()[hit].flatten(0, -2)  # each token has a ball of its own
                ahead = ball.project(rows + step_size * ball.steepest(gradient.flatten(0, -2)))
                moved[standing] = ahead.view(gradient.shape)
        return tokens, worst


def embedding_table(model: nn.Module, inputs: Inputs) -> Tensor:
    """The table, (V, D), in which a model looks up the tokens that its first input is.

    Raises:
        TrialError: It does so in none, or in several.
    """
    tables: dict[int, Tensor] = {}

    def seen(table: Tensor, vectors: Tensor) -> Tensor:
        tables[id(table)] = table
        return vectors

    with torch.no_grad(), _LookUps(inputs.first, seen):
        inputs.feed(model)
    if len(tables) != 1:
        raise TrialError(
            f"the model looks up the tokens of its first input as they are in {len(tables)} embeddings, not in one:"
            " there is nothing to attack, or no telling what"
        )
    return next(iter(tables.values()))


class _LookUps(TorchFunctionMode):
    """Sees what rows are looked up for some tokens, and may change them; in modules and in exported graphs."""

    def __init__(self, tokens: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """While it is entered.

        Args:
            tokens: (N, T).
            change: From the table (V, D) and its rows (N, T, D) to what the model gets instead.
        """
        super().__init__()
        self._tokens, self._change = tokens, change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func not in _LOOK_UPS:
            return found
        named = dict(zip(_LOOK_UPS[func], args, strict=False)) | (kwargs or {})
        tokens = named["input"] if "input" in named else named["indices"]
        if tokens.shape != self._tokens.shape or not torch.equal(tokens, self._tokens):
            return found
        return self._change(named["weight"], found)


_LOOK_UPS = {
    functional.embedding: ("input", "weight"),
    torch.embedding: ("weight", "indices"),
    torch.ops.aten.embedding.default: ("weight", "indices"),
}
"""What looks rows up, and its first two arguments."""


def _moved(by: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Rows (N, T, D) moved by (N, T, D) in units of their own lengths."""

    def changed(_: Tensor, rows: Tensor) -> Tensor:
        lengths: Tensor = rows.detach().norm(dim=-1, keepdim=True)
        return rows + by * lengths

    return changed
