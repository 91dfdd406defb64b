"""Sentences as the tokens of a transformers tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SourceContext
from autoprune.toolkit.files import existing, json_of
from autoprune.toolkit.packages import optional

NOWHERE = -100
"""The target of a token that counts nowhere."""

_ROWS = 2048
"""Sentences that are tokenised together: their tokens are Python's meanwhile, which takes ten times as much memory."""


def open_tokenizer(path: Path, ctx: SourceContext) -> Any:
    """The tokenizer of a folder, as ``save_pretrained`` wrote it; nothing is downloaded, and none of its code runs.

    Raises:
        DataError: There is no such folder, no tokenizer in it, or no transformers.
    """
    folder = existing(path, ctx)
    tokenizers = optional("transformers").AutoTokenizer
    if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json", "config.json")):
        raise DataError(f"{folder}: no tokenizer_config.json in it; write one with tokenizer.save_pretrained(folder)")
    try:
        return tokenizers.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds; each means the same to the user
        cause = str(error).strip().partition("\n")[0][:300]
        raise DataError(f"{folder}: cannot be opened as a tokenizer: {type(error).__name__}: {cause}") from error


def encoded(tokenizer: Any, texts: Sequence[Any], *, length: int) -> dict[str, Tensor]:
    """What the tokenizer makes of N sentences or pairs, cut and padded, int64 of shape (N, length) each.

    Args:
        tokenizer: Of transformers.
        texts: One column of strings, or two of a pair, as pyarrow's arrays.
        length: Tokens of a row.

    Raises:
        DataError: It has no token for padding, or no room for the text.
    """
    if tokenizer.pad_token_id is None:
        raise DataError(
            "the tokenizer has no token for padding; say which, as in tokenizer.pad_token = tokenizer.eos_token, and"
            " save it again"
        )
    _check_room(tokenizer, length, pair=len(texts) > 1)
    made: dict[str, Tensor] = {}
    for start in range(0, len(texts[0]), _ROWS):
        rows = [column.slice(start, _ROWS).to_pylist() for column in texts]
        batch = tokenizer(
            *rows, padding="max_length", truncation=True, max_length=length, return_tensors="np", verbose=False
        )
        for keyword, tokens in batch.items():
            if keyword not in made:
                made[keyword] = torch.empty((len(texts[0]), length), dtype=torch.int64)
            made[keyword][start : start + _ROWS] = torch.from_numpy(tokens)
    return made


def encoded_targets(tokenizer: Any, texts: Any, *, length: int) -> Tensor:
    """Tokens of what is to be said, cut, int64 of shape (N, length); `NOWHERE` behind their end.

    Args:
        tokenizer: Of transformers.
        texts: A column of strings, as pyarrow's array.
        length: Tokens of a row.
    """
    _check_room(tokenizer, length, pair=False)
    rows = torch.full((len(texts), length), NOWHERE)
    for start in range(0, len(texts), _ROWS):
        batch = tokenizer(
            text_target=texts.slice(start, _ROWS).to_pylist(), truncation=True, max_length=length, verbose=False
        )
        for row, tokens in zip(rows[start:], batch["input_ids"], strict=False):
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return rows


def shifted(targets: Tensor, *, first: int, padding: int) -> Tensor:
    """What a decoder has said before it says the targets, (N, T): the first token, and targets but the last."""
    before = targets.roll(1, dims=1)
    before[:, 0] = first
    return before.masked_fill(before == NOWHERE, padding)


def decoder_start(tokenizer: Any) -> int:
    """The token that a model's decoder begins with, as its configuration beside the tokenizer says.

    Raises:
        DataError: There is none, or it does not say.
    """
    folder = Path(tokenizer.name_or_path)
    for file in (folder / "generation_config.json", folder / "config.json"):
        try:
            told = json_of(file.read_bytes()) if file.is_file() else {}
        except ValueError as error:
            raise DataError(f"{file} is no JSON: {error}") from error
        found = told.get("decoder_start_token_id") if isinstance(told, dict) else None
        if isinstance(found, int):
            return found
    raise DataError(
        f"{folder} does not say which token the decoder begins with; write decoder_start: the decoder_start_token_id of"
        " the model's configuration"
    )


def tokens_of(tokenizer: Any, lines: Sequence[str]) -> Iterator[list[int]]:
    """The tokens of each line, none added."""
    for start in range(0, len(lines), _ROWS):
        batch = tokenizer(list(lines[start : start + _ROWS]), add_special_tokens=False, verbose=False)
        yield from batch["input_ids"]


def _check_room(tokenizer: Any, length: int, *, pair: bool) -> None:
    added = tokenizer.num_special_tokens_to_add(pair=pair)
    if length <= added:
        raise DataError(f"of {length} tokens a sentence would have none: the tokenizer adds {added} of its own")
