"""Text as one row of tokens, cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SplitName
from autoprune.toolkit.splits import SPLIT_NAMES, Samples, carved
from autoprune_sources._options import Carving
from autoprune_sources._tables import read_tables
from autoprune_sources._text import frequent_words
from autoprune_sources._tokens import NOWHERE, tokens_of

END, UNKNOWN, MASK, _FIRST_WORD = range(4)
"""Tokens of `Words`: behind each sentence, a word outside of the vocabulary, a masked word, the most frequent one."""


class Vocabulary(Protocol):
    """What makes tokens of sentences."""

    end: int
    """The token behind a sentence."""
    mask: int | None
    """The token in place of a masked one, if there is one."""

    def tokens(self, sentences: Sequence[str]) -> Iterable[list[int]]:
        """Those of each sentence."""
        ...


class Words:
    """The most frequent words of some sentences, each a token."""

    end = END
    mask: int | None = MASK

    def __init__(self, sentences: Sequence[str], *, size: int, lowercase: bool) -> None:
        """Count them.

        Args:
            sentences: Those to learn from.
            size: Tokens are below it.
            lowercase: Whether capital letters become small ones.
        """
        self._lowercase = lowercase
        self._words = frequent_words(map(self._split, sentences), most=size - _FIRST_WORD, first=_FIRST_WORD)

    def tokens(self, sentences: Sequence[str]) -> Iterable[list[int]]:
        """The token of each word."""
        return ([self._words.get(word, UNKNOWN) for word in self._split(sentence)] for sentence in sentences)

    def _split(self, sentence: str) -> list[str]:
        return (sentence.lower() if self._lowercase else sentence).split()


class Subwords:
    """A tokenizer of transformers."""

    def __init__(self, tokenizer: Any, *, end: int | None) -> None:
        """Find its special tokens.

        Args:
            tokenizer: Of transformers.
            end: The token behind a sentence, if it is not to be its own.

        Raises:
            DataError: It has no token for the end of a sentence.
        """
        known = (end, tokenizer.eos_token_id, tokenizer.sep_token_id)
        found = next((token for token in known if token is not None), None)
        if found is None:
            raise DataError("the tokenizer has no token for the end of a sentence (eos, sep); name one by end_token")
        self._tokenizer = tokenizer
        self.end: int = found
        self.mask: int | None = tokenizer.mask_token_id

    def tokens(self, sentences: Sequence[str]) -> Iterable[list[int]]:
        """The tokens of each sentence, none added."""
        return tokens_of(self._tokenizer, sentences)


def read_lines(path: Path, *, text: str, carving: Carving) -> dict[SplitName, list[str]]:
    """The sentences of each split, in the order of the files; what is not there is the end of another.

    Args:
        path: A text file, or a folder of them by split, or tables.
        text: Column of tables.
        carving: How to come by splits that are missing.

    Raises:
        DataError: There is no training split, or a file cannot be read.
    """
    found = _text_files(path) or {
        split: table.texts(text).to_pylist() for split, table in read_tables(path, {text: "`text`"}).items()
    }
    lines = {split: [line for line in each if line.strip()] for split, each in found.items()}
    # From the end, and as they stand: what belongs together stays together.
    parts = carved({split: torch.arange(len(each)).flip(0) for split, each in lines.items()}, **carving)
    return {split: [lines[origin][row] for row in reversed(rows.tolist())] for split, (origin, rows) in parts.items()}


def blocks_of(sentences: Sequence[str], vocabulary: Vocabulary, *, length: int, where: str) -> Tensor:
    """Sentences one behind the other, an end behind each, cut into blocks, int64 of shape (N, length).

    What is left over at the end is dropped: nothing is padded.

    Raises:
        DataError: There are too few tokens for a block.
    """
    rows = [np.array([*tokens, vocabulary.end], dtype=np.int64) for tokens in vocabulary.tokens(sentences)]
    count = sum(map(len, rows)) // length
    if not count:
        raise DataError(f"{where} has {sum(map(len, rows))} tokens, too few for a block of {length}; `length` says so")
    return torch.from_numpy(np.concatenate(rows)[: count * length]).view(count, length)


def said_by_position(blocks: Tensor, arranged: Callable[[Tensor], Any]) -> Samples:
    """Samples whose targets are the tokens themselves: a causal task compares each with what was said before it."""
    return Samples(blocks, lambda index: arranged(blocks[index]))


def masked(blocks: Tensor, arranged: Callable[[Tensor], Any], *, share: float, end: int, mask: int) -> Samples:
    """Samples with a share of their tokens masked, always the same ones; these alone count.

    All of them become the mask token, where BERT (Devlin et al., arXiv:1810.04805) leaves a tenth as they are and
    replaces a tenth by others: what is measured is how well masked words are told.
    """
    draws = torch.rand(blocks.shape, generator=torch.Generator().manual_seed(0))
    draws[blocks == end] = 1.0  # an end tells no word
    least = draws.min(dim=1, keepdim=True).values
    chosen = (draws < share) | ((draws == least) & (draws < 1.0))  # at least one in each block
    return Samples(
        lambda index: blocks[index].masked_fill(~chosen[index], NOWHERE),
        lambda index: arranged(blocks[index].masked_fill(chosen[index], mask)),
        length=len(blocks),
    )


def _text_files(path: Path) -> dict[SplitName, list[str]]:
    """Lines of plain text by split; nothing if none of its files is called as a training split is."""
    if path.is_file():
        return {"train": _lines(path)} if path.suffix == ".txt" else {}
    found: dict[SplitName, list[str]] = {}
    for split, aliases in SPLIT_NAMES.items():
        files = [file for alias in aliases if (file := path / f"{alias}.txt").is_file()]
        if files:
            found[split] = _lines(files[0])
    return found if "train" in found else {}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 text: {error}") from error
