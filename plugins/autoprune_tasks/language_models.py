"""Tokens: the next one, masked ones, those of an answer.

Shapes use T tokens and V words of the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin.task import shapes
from autoprune_tasks._positions import PositionsTask
from autoprune_tasks._refusals import FOR_POSITIONS, no_scores, no_single_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.plugin import Data

_ENOUGH = 8
"""Targets that cannot all be the input's tokens by chance: BERT's masking leaves one masked token in ten as it is."""


class TokensTask(PositionsTask):
    """Base of tasks with scores (N, T, V) and a target for each token."""

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        """Why a batch has not one target for each token, and what to write; None when it has."""
        takes = f"{self.name} takes outputs (N, T, V), scores of V words for each of T tokens, and targets (N, T) int64"
        return (
            no_scores(outputs, takes)
            or no_single_tensor(targets, takes)
            or _wrong_kind(outputs, targets, takes)
            or self._unanswered(outputs, targets, data)
            or self._unlike(targets, data)
        )

    def _unlike(self, targets: Tensor, data: Data) -> str | None:  # noqa: ARG002  for subclasses
        """Why targets cannot be meant, beside the tokens that the model gets; None when they can."""
        return None

    def _scores(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        if targets is not None and targets.shape != outputs.shape[:2]:
            raise TrialError(
                f"{self.name}: targets are {shapes(targets)} and outputs {shapes(outputs)}, not one for each token"
            )
        return outputs

    def _classes(self, targets: Tensor) -> Tensor:
        return targets

    def _same(self, targets: Tensor, tokens: Tensor) -> bool:
        """Whether the targets that count are the tokens beside them, and too many for that to be chance."""
        counting = targets != self.ignore_index
        return int(counting.sum()) >= _ENOUGH and bool((targets == tokens)[counting].all())


class CausalLM(TokensTask):
    """The next token: outputs are scores (N, T, V), targets int64 of shape (N, T), the tokens themselves.

    As with Hugging Face, what stands at t foretells the target at t + 1, and those that are -100 (padding, a prompt)
    count nowhere. The loss is the cross-entropy in nats, whose exponential is the perplexity, and the distance of two
    models the Kullback-Leibler divergence, both the mean over a sample's tokens.
    """

    name = "causal-lm"

    shifted: bool = Field(
        default=False, description="The data has shifted the targets already: what stands at t foretells the one at t."
    )

    def _scores(self, outputs: Tensor, targets: Tensor | None) -> Tensor:
        scores = super()._scores(outputs, targets)
        return scores if self.shifted or targets is None else scores[:, :-1]

    def _classes(self, targets: Tensor) -> Tensor:
        return targets if self.shifted else targets[:, 1:]

    def _unlike(self, targets: Tensor, data: Data) -> str | None:
        tokens = _tokens(data, targets)
        if tokens is None:
            return None
        itself, next_one = self._same(targets, tokens), self._same(targets[:, :-1], tokens[:, 1:])
        if not self.shifted and next_one and not itself:
            return (
                "each target is the token after the input's, and causal-lm would shift once more: write task: {use:"
                " causal-lm, shifted: true}"
            )
        if self.shifted and itself and not next_one:
            return (
                "the targets are the input's own tokens, which the model sees, and not shifted: write task: {use:"
                " causal-lm}, which shifts them"
            )
        return None


class MaskedLM(TokensTask):
    """Masked tokens, as BERT learns them: outputs are scores (N, T, V), targets int64 of shape (N, T).

    Targets are -100, which counts nowhere, everywhere but where the input is masked. The loss is the cross-entropy in
    nats, and the distance of two models the Kullback-Leibler divergence, both the mean over a sample's masked tokens.
    Devlin et al., arXiv:1810.04805.
    """

    name = "masked-lm"

    def _unlike(self, targets: Tensor, data: Data) -> str | None:
        tokens = _tokens(data, targets)
        if tokens is None or not self._same(targets, tokens):
            return None
        return (
            "the targets are the input's own tokens, which the model sees: let the data mask some of the input and give"
            " -100 as the target of all others; for the next token write task: {use: causal-lm}"
        )


class Seq2SeqLM(TokensTask):
    """The answer's tokens: outputs are the decoder's scores (N, T, V), targets int64 of shape (N, T).

    What stands at t says the target at t: the decoder's own input, ``decoder_input_ids``, which the data gives, is one
    behind. Targets that are -100 (padding) count nowhere. The loss is the cross-entropy in nats, and the distance of
    two models the Kullback-Leibler divergence, both the mean over a sample's tokens.
    """

    name = "seq2seq-lm"


def _wrong_kind(outputs: Tensor, targets: Tensor, takes: str) -> str | None:
    import torch

    came = f"targets are {shapes(targets)} and outputs {shapes(outputs)}; {takes}"
    if outputs.dim() == 3 and targets.shape == outputs.shape[:2]:
        if outputs.shape[2] == 1 or targets.is_floating_point():
            return f"{came}: for numbers write task: {{use: regression}}"
        return None if targets.dtype == torch.int64 else f"{came}: let the data give tokens as int64"
    if outputs.dim() > 2 and targets.shape == (outputs.shape[0], *outputs.shape[2:]):
        return f"{came}: {FOR_POSITIONS}"
    if outputs.dim() != 3 or targets.dim() == 1:
        return f"{came}: for one class per sample write task: {{use: classification}}, of a model that gives (N, C)"
    return f"{came}: let the data give one target for each token, {tuple(outputs.shape[:2])}"


def _tokens(data: Data, targets: Tensor) -> Tensor | None:
    """The tokens that the model gets for those targets; None where the data has none of that shape."""
    import torch

    inputs, again = data.validation.fetch(torch.arange(min(len(targets), len(data.validation))))
    tokens = inputs.kwargs.get("input_ids", inputs.first).to(targets.device)
    if tokens.shape != targets.shape or tokens.is_floating_point() or not isinstance(again, torch.Tensor):
        return None
    return tokens if torch.equal(again.to(targets.device), targets) else None
