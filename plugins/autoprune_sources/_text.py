"""Sentences of parquet shards, and the integers that stand for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from autoprune import DataError
from autoprune.toolkit.files import listed
from autoprune_sources._parquet import columns, is_text, read_columns, type_of

PADDING, UNKNOWN, _FIRST_WORD = range(3)
"""Tokens: behind a sentence that is too short, a word outside of the vocabulary, the most frequent word."""

_TEXT_NAMES = ("text", "sentence", "content", "review", "document")


def read_sentences(
    shards: Sequence[Path], *, text: str | None, label: str | None, lowercase: bool
) -> tuple[list[list[str]], Tensor]:
    """The words of every sentence, and the classes (N,), of one split.

    Args:
        shards: Files of the split, in order.
        text: Name of the column of sentences, or None to find it.
        label: Name of the label column, or None to find it.
        lowercase: Whether capital letters become small ones.

    Raises:
        DataError: A file is malformed, or its columns are not what is needed.
    """
    where, column, targets = read_columns(shards, lambda schema, where: _text_column(schema, text, where), label)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{where}: {column.null_count} rows have no sentence, the first of them row {row}")
    sentences: list[str] = column.to_pylist()
    return [(sentence.lower() if lowercase else sentence).split() for sentence in sentences], targets


def frequent_words(sentences: Iterable[Sequence[str]], *, most: int, first: int = _FIRST_WORD) -> dict[str, int]:
    """Token of each of the most frequent words, from ``first`` on; of equally frequent ones the alphabet's first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: first + rank for rank, word in enumerate(ranked[:most])}


def tokens_of(sentences: Sequence[Sequence[str]], words: Mapping[str, int], *, length: int) -> Tensor:
    """The sentences as int64 of shape (N, length)."""
    rows = torch.full((len(sentences), length), PADDING)
    for row, sentence in zip(rows, sentences, strict=True):
        found = [words.get(word, UNKNOWN) for word in sentence[:length]] or [UNKNOWN]
        row[: len(found)] = torch.tensor(found)
    return rows


def _text_column(schema: pa.Schema, asked: str | None, where: str) -> str:
    if asked is not None:
        kind = type_of(schema, asked, where)
        if not is_text(kind):
            raise DataError(f"{where}: column {asked!r} holds {kind}, not text")
        return asked
    texts = [field.name for field in schema if is_text(field.type)]
    named = [name for name in _TEXT_NAMES if name in texts]
    if named or len(texts) == 1:
        return str((named or texts)[0])
    if texts:
        raise DataError(f"{where}: columns {listed(texts)} all hold text; name the sentences' with `text`")
    raise DataError(f"{where}: no column holds text. {columns(schema)}")
