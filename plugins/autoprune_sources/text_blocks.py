"""Text for language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from autoprune import DataError
from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import SplitSource

if TYPE_CHECKING:
    from torch import Tensor


class TextBlocks(SplitSource):
    """Sentences one behind the other, cut into blocks of ``length`` tokens: for causal and masked language models.

    Text is ``train.txt``, ``validation.txt`` and ``test.txt``, a sentence or paragraph on each line, or a column of
    parquet, csv or json files, or of what ``save_to_disk`` of ``datasets`` wrote. Behind each sentence stands a token
    for its end; nothing is padded. Targets are the same tokens, or, with ``mask``, the masked ones.

    Tokens are those of a ``tokenizer`` of transformers (which needs the extra ``autoprune[huggingface]``), or words: 0
    is the end of a sentence, 1 any word that is not in the vocabulary, 2 a masked word, from 3 on the words of the
    training split, the most frequent first. Words are what stands between white space.
    """

    name = "text-blocks"

    path: Path = Field(description="Folder of the files, or a single file of training text.")
    text: str = Field(default="text", description="Column of sentences in tables.")
    tokenizer: Path | None = Field(
        default=None, description="Folder that tokenizer.save_pretrained wrote; words are tokens if left out."
    )
    vocabulary: int = Field(
        default=8000, ge=4, description="Without a tokenizer: tokens are below this, the rarest words are unknown."
    )
    lowercase: bool = Field(default=False, description="Without a tokenizer: take Good and good for one word.")
    length: int = Field(default=128, ge=2, description="Tokens of a block.")
    keyword: str = Field(
        default="input_ids", description="How the model calls its tokens; empty for the first argument."
    )
    mask: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the tokens that are masked, such as 0.15, for masked language models; always the same"
        " ones.",
    )
    mask_token: int | None = Field(
        default=None, ge=0, description="Token of a masked one; the tokenizer's if left out."
    )
    end_token: int | None = Field(
        default=None, ge=0, description="Token behind a sentence; the tokenizer's eos, or else sep, if left out."
    )

    @model_validator(mode="after")
    def _special_tokens_of_a_tokenizer(self) -> Self:
        if self.tokenizer is None and (self.mask_token is not None or self.end_token is not None):
            raise ValueError("mask_token and end_token belong to a tokenizer; of words they are 2 and 0")
        if self.mask_token is not None and not self.mask:
            raise ValueError("mask_token belongs to mask, the share of tokens that are masked")
        return self

    def load(self, ctx: SourceContext) -> Data:
        """The splits, inputs (N, length) of int64; one that is not there is the end of the training split."""
        from autoprune.toolkit.splits import three_splits
        from autoprune_sources._text_blocks import blocks_of, masked, read_lines, said_by_position

        path = existing(self.path, ctx)
        lines = read_lines(path, text=self.text, carving=self._carving)
        vocabulary = self._vocabulary(lines["train"], ctx)
        mask = vocabulary.mask if self.mask_token is None else self.mask_token
        found = {}
        for split, sentences in lines.items():
            blocks = blocks_of(sentences, vocabulary, length=self.length, where=f"{path}: {split}")
            if not self.mask:
                found[split] = said_by_position(blocks, self._arranged)
            elif mask is None:
                raise DataError("the tokenizer has no token for what is masked; name one by mask_token")
            else:
                found[split] = masked(blocks, self._arranged, share=self.mask, end=vocabulary.end, mask=mask)
        splits = three_splits(found, **self._carving)
        return Data(**splits, classes=None, normalization=None, bounds=None)

    def _vocabulary(self, sentences: list[str], ctx: SourceContext) -> Any:
        from autoprune_sources._text_blocks import Subwords, Words

        if self.tokenizer is None:
            return Words(sentences, size=self.vocabulary, lowercase=self.lowercase)
        from autoprune_sources._tokens import open_tokenizer

        return Subwords(open_tokenizer(self.tokenizer, ctx), end=self.end_token)

    def _arranged(self, tokens: Tensor) -> Any:
        return {self.keyword: tokens} if self.keyword else tokens
