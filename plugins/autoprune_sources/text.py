"""Labelled sentences in parquet files, as the Hugging Face hub lays them out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from autoprune.plugin import Data, SourceContext
from autoprune.toolkit.files import existing
from autoprune_sources._options import SplitSource


class Text(SplitSource):
    """A folder of train, validation and test parquet files with a column of sentences and an integer label column.

    A sentence becomes ``length`` integers: 0 is padding (behind the words), 1 any word that is not in the vocabulary,
    from 2 on the words of the training split, the most frequent first. Words are what stands between white space. A
    longer sentence is cut, and one without a word is a single unknown word, so that every sentence has a token that is
    not padding: a model may take ``tokens != 0`` as its mask.
    """

    name = "text"

    path: Path = Field(description="Folder of the parquet files.")
    text: str | None = Field(default=None, description="Column of sentences; found by type and name if left out.")
    label: str | None = Field(default=None, description="Integer label column; found by type and name if left out.")
    vocabulary: int = Field(
        default=8000, ge=3, description="Tokens are below this: padding, unknown, and the most frequent words."
    )
    length: int = Field(default=32, ge=1, description="Tokens of a sentence, cut or padded.")
    lowercase: bool = Field(default=False, description="Take Good and good for one word.")

    def load(self, ctx: SourceContext) -> Data:
        """The splits, inputs (N, length) of int64; one that has no file is carved from another."""
        import torch

        from autoprune.toolkit.splits import Samples, number_of_classes, three_splits
        from autoprune_sources._parquet import shards_of
        from autoprune_sources._text import frequent_words, read_sentences, tokens_of

        shards = shards_of(existing(self.path, ctx))
        read = {
            split: read_sentences(files, text=self.text, label=self.label, lowercase=self.lowercase)
            for split, files in shards.items()
        }
        # Split the bare row numbers first: the vocabulary is made of the words that are trained on, of no others.
        rows = {split: Samples(targets, lambda index: index) for split, (_, targets) in read.items()}
        train = three_splits(rows, **self._carving)["train"]
        trained, _ = train.fetch(torch.arange(len(train)))
        sentences, _ = read["train"]
        words = frequent_words((sentences[row] for row in trained.first.tolist()), most=self.vocabulary - 2)
        found = {
            split: Samples(targets, tokens_of(sentences, words, length=self.length).__getitem__)
            for split, (sentences, targets) in read.items()
        }
        return Data(
            **three_splits(found, **self._carving),
            classes=number_of_classes(found),
            normalization=None,
            bounds=None,
        )
