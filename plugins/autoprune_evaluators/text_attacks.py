"""How many predictions from text survive an attack on its tokens, or on their embeddings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.plugin.task import shapes
from autoprune_evaluators._attacking import GAUGED, ROBUST_ACCURACY, AttackingEvaluator, Epsilon

if TYPE_CHECKING:
    from torch import nn

    from autoprune_evaluators._attack import Attack


_LARGEST = 4.0
"""Epsilon at which an embedding may become any other one, as good as."""


class TextAttackEvaluator(AttackingEvaluator):
    """Counts the predictions from tokens that are right despite an attack."""

    metrics = (ROBUST_ACCURACY,)

    def refuses(self, data: Data) -> str | None:
        """Why it cannot attack inputs like these; None when it can."""
        import torch

        first = data.validation.fetch(torch.zeros(1, dtype=torch.int64))[0].first
        if first.dim() == 2 and first.dtype in (torch.int64, torch.int32):
            return None
        return f"{self.name} attacks tokens, integers (N, T); the first input is {shapes(first)}: use pgd"

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Attack each sample that is predicted right, and count those that still are, among all samples.

        Raises:
            DataError: Inputs are no tokens.
            TrialError: The task knows no right and wrong, or the model looks the tokens up in no one table.
        """
        model, ctx = self.focused(model, ctx)
        if fault := self.refuses(ctx.data):
            raise DataError(fault)
        return self._measured(model, ctx)

    @abstractmethod
    def _measured(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """The metrics, of tokens."""


class EmbeddingAttack(TextAttackEvaluator):
    """Accuracy under projected gradient descent on the embeddings of tokens.

    Each token's embedding moves by epsilon times its own length at most, so that models whose embeddings are of other
    widths and lengths are attacked alike. No text has such embeddings: it is the continuous stand-in for one, cheap and
    strong. The embedding that gets the tokens is found; a model without one, or with several, is refused. Miyato et
    al., *Adversarial training methods for semi-supervised text classification*, arXiv:1605.07725; Zhu et al.,
    *FreeLB*, arXiv:1909.11764.
    """

    name = "embedding-attack"

    epsilon: Epsilon = Field(
        default="auto",
        description="Largest change of an embedding, as a share of its length. auto finds one at which the dense model"
        " keeps about 60 % robust accuracy.",
    )
    steps: int = Field(default=10, ge=1, description="Gradient steps.")

    def declares(self, data: Data | None) -> tuple[Metric, ...]:
        """The robust accuracy, and the epsilon where that was to be found."""
        found = Metric("epsilon", "of the length", "maximize", Cost.ATTACK, "Size of the change that was found.")
        return (*super().declares(data), found) if self.epsilon == "auto" else super().declares(data)

    def final(self) -> Self:
        """Twice the steps."""
        return self.model_copy(update={"steps": 2 * self.steps})

    def _measured(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        if self.epsilon != "auto":
            return {"robust_accuracy": self._robust_accuracy(model, ctx, self._runs(self.epsilon))}
        gauge = self.model_copy(update={"steps": type(self).model_fields["steps"].default, "samples": GAUGED})
        epsilon = gauge._found_epsilon(ctx, gauge._runs, lambda: _LARGEST)
        return {"robust_accuracy": self._robust_accuracy(model, ctx, self._runs(epsilon)), "epsilon": epsilon}

    def _runs(self, epsilon: float) -> Sequence[Attack]:
        from autoprune_evaluators import _embeddings

        return [_embeddings.EmbeddingAttack(epsilon=epsilon, steps=self.steps)]


def _tokens(tokens: tuple[int, ...]) -> tuple[int, ...]:
    if not tokens or min(tokens) < 0:
        raise ValueError("name one token or more, each 0 or larger")
    return tokens


class TokenAttack(TextAttackEvaluator):
    """Accuracy under substitution of tokens by their nearest neighbours.

    A black box, which is asked for outputs alone: tokens are ranked by how much the loss rises without them, and then
    replaced in that order, each by the neighbour that raises the loss most. Neighbours are those of the dense model's
    embeddings by cosine similarity, so that every model of a study is offered the same; one without an embedding that
    gets the tokens, or with several, is refused. A sample is lost as soon as one substitution is misclassified. Jin et
    al., *Is BERT really robust?* (TextFooler), arXiv:1907.11932, without its filters for grammar; Ren et al. (PWWS),
    ACL 2019.
    """

    name = "token-attack"
    needs = frozenset({"data", "labels"})

    share: float = Field(
        default=0.2, gt=0, le=1, description="Largest share of a sample's tokens that is replaced; at least one is."
    )
    candidates: int = Field(default=8, ge=1, description="Neighbours that are tried for each token.")
    keep: Annotated[tuple[int, ...], AfterValidator(_tokens)] = Field(
        default=(0, 1),
        description="Tokens that are neither replaced nor put in, such as padding and what a tokenizer adds; the first"
        " one stands for a token that is taken away.",
    )

    def final(self) -> Self:
        """Twice the neighbours."""
        return self.model_copy(update={"candidates": 2 * self.candidates})

    def _measured(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        from autoprune_evaluators import _tokens as tokens
        from autoprune_evaluators._embeddings import embedding_table

        inputs, _ = next(iter(self.batches(ctx)))
        table = embedding_table(ctx.dense, inputs).detach()
        others = len(table) - len(set(self.keep)) - 1
        if max(self.keep) >= len(table) or others < self.candidates:
            raise TrialError(
                f"{self.name}: the model knows {len(table)} tokens, which are too few for keep: {list(self.keep)} and"
                f" {self.candidates} candidates"
            )
        attack = tokens.TokenAttack(table=table, keep=self.keep, candidates=self.candidates, share=self.share)
        return {"robust_accuracy": self._robust_accuracy(model, ctx, [attack])}
