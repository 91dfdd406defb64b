"""An attack that replaces tokens by others that mean nearly the same.

Shapes use: N samples of T tokens, K candidates for a token, V tokens in all, D numbers of a token's embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from autoprune.plugin import Inputs, Task
from autoprune.toolkit.samples import losses, right_shares
from autoprune_evaluators._attack import FromOrigin, picked


@dataclass(frozen=True, kw_only=True)
class TokenAttack(FromOrigin):
    """Greedy: the tokens that matter most first, each by the candidate that raises the loss most."""

    table: Tensor
    """Embeddings, (V, D): near ones mean nearly the same."""
    keep: tuple[int, ...]
    """Tokens that are neither replaced nor put in; the first one stands for none."""
    candidates: int
    """K."""
    share: float
    """Of a sample's tokens, that are replaced; at least one is."""
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
        """As of `Attack`; it asks for outputs alone."""
        with torch.no_grad():
            return self._greedy(_Asked(model, inputs, targets, task), inputs.first)

    def _greedy(self, ask: _Asked, origin: Tensor) -> tuple[Tensor, Tensor]:
        words = ~torch.isin(origin, torch.tensor(self.keep, device=origin.device))
        everyone = torch.arange(len(origin), device=origin.device)
        most, right = ask(everyone, origin)
        order, budget = self._order(ask, origin, words), (self.share * words.sum(1)).long().clamp(min=1)
        budget = budget.minimum(words.sum(1))
        tokens, worst = origin.clone(), right.clone()
        for turn in range(int(budget.max())):
            some = ((worst > 0) & (turn < budget)).nonzero().squeeze(1)
            if not len(some):
                break
            place = order[some, turn]
            for token in self.nearest(origin[some, place]).T:
                tried = tokens[some]
                tried[torch.arange(len(some), device=some.device), place] = token
                loss, right = ask(some, tried)
                loss = loss.where(right > 0, torch.inf)  # what is lost stays so
                worst[some] = worst[some].minimum(right)
                better = loss > most[some]
                tokens[some[better]], most[some[better]] = tried[better], loss[better]
        return tokens, worst

    def _order(self, ask: _Asked, origin: Tensor, words: Tensor) -> Tensor:
        """Places by how much the loss rises where the token there is gone, largest first, (N, T)."""
        gone = []
        for place in range(origin.shape[1]):
            without = origin.clone()
            without[:, place] = self.keep[0]
            loss = torch.where(words[:, place], 0.0, -torch.inf)
            some = (words[:, place] & (words.sum(1) > 1)).nonzero().squeeze(1)  # a sample of nothing may be no input
            if len(some):
                loss[some] = ask(some, without[some])[0]
            gone.append(loss)
        return torch.stack(gone, 1).argsort(dim=1, descending=True, stable=True)

    def nearest(self, tokens: Tensor) -> Tensor:
        """The candidates for tokens, (N,): those of the largest cosine similarity, nearest first, (N, K)."""
        table = normalize(self.table, dim=1)
        different, back = torch.unique(tokens, return_inverse=True)
        alike = table[different] @ table.T
        alike[:, list(self.keep)] = -torch.inf
        alike[torch.arange(len(different), device=different.device), different] = -torch.inf
        nearest: Tensor = alike.topk(self.candidates, dim=1).indices
        return nearest[back]


@dataclass(frozen=True)
class _Asked:
    """A model's loss on samples, and the share that is right, whose tokens are others."""

    model: nn.Module
    inputs: Inputs
    targets: Any
    task: Task

    def __call__(self, samples: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of samples, (M,), and their tokens, (M, T), to the loss and the share that is right, (M,) each."""
        outputs, targets = self.inputs[samples].with_first(tokens).feed(self.model), picked(self.targets, samples)
        right = right_shares(self.task, outputs, targets).float()
        return losses(self.task, outputs, targets).float(), right
