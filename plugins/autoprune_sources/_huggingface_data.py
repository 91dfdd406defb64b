"""Columns of tables as inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from autoprune import DataError
from autoprune.plugin import SourceContext, SplitName
from autoprune.toolkit.splits import Samples
from autoprune_sources._arrays import as_input, as_target
from autoprune_sources._images import Form, LazyImages
from autoprune_sources._parquet import images_of, is_image
from autoprune_sources._tables import Table, read_tables
from autoprune_sources._tokens import decoder_start, encoded, encoded_targets, open_tokenizer, shifted

if TYPE_CHECKING:
    from autoprune_sources.huggingface_data import HuggingFaceData

_SEGMENTS = "token_type_ids"
_Read = Callable[[Tensor], Tensor]
"""Indices to the samples of one input."""


def read_samples(source: HuggingFaceData, folder: Path, ctx: SourceContext) -> dict[SplitName, Samples]:
    """The samples of each split that is there, inputs by keyword.

    Raises:
        DataError: The folder, the tokenizer or a column is missing, or does not hold what it should.
    """
    texts, spoken = _listed(source.text), _listed(source.target_text)
    labels = [] if spoken else _listed(source.label)
    wanted = {
        **dict.fromkeys(labels, "`label` (null where there is none)"),
        **dict.fromkeys(source.columns.values(), "`columns`"),
        **dict.fromkeys(texts, "`text`"),
        **dict.fromkeys(spoken, "`target_text`"),
    }
    tables = read_tables(folder, wanted, splits=source.splits)
    inputs: dict[SplitName, dict[str, _Read]] = {split: {} for split in tables}
    targets: dict[SplitName, Any] = {split: _targets(table, source.label, labels) for split, table in tables.items()}
    for keyword, column in source.columns.items():
        for split, read in _column(tables, column, source).items():
            inputs[split][keyword] = read
    if source.tokenizer is not None:
        tokenizer = open_tokenizer(source.tokenizer, ctx)
        for split, tokens in _tokenised(tables, texts, tokenizer, length=source.max_length).items():
            inputs[split] |= {keyword: tensor.__getitem__ for keyword, tensor in tokens.items()}
        for name in spoken:
            first = decoder_start(tokenizer) if source.decoder_start is None else source.decoder_start
            length = source.max_target_length or source.max_length
            for split, table in tables.items():
                targets[split] = encoded_targets(tokenizer, table.texts(name), length=length)
                inputs[split]["decoder_input_ids"] = _before(targets[split], first, tokenizer.pad_token_id)
    return {
        split: Samples(targets[split], _together(reads), length=len(tables[split])) for split, reads in inputs.items()
    }


def _listed(names: str | tuple[str, ...] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _together(reads: Mapping[str, _Read]) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda index: {keyword: read(index) for keyword, read in reads.items()}


def _before(targets: Tensor, start: int, padding: int) -> _Read:
    """What the decoder has said, made of the targets when it is needed."""
    return lambda index: shifted(targets[index], first=start, padding=padding)


def _column(tables: Mapping[SplitName, Table], name: str, source: HuggingFaceData) -> dict[SplitName, _Read]:
    """A column of numbers or images of each split."""
    if is_image(tables["train"].columns[name].type):
        files = {split: images_of(table.columns[name], table.where) for split, table in tables.items()}
        form = Form.of(files["train"], channels=source.channels, size=source.size)
        return {split: LazyImages(images, form) for split, images in files.items()}
    tensors = {
        split: as_input(table.numbers(name), where=f"{table.where}: column {name!r}") for split, table in tables.items()
    }
    _check_alike(tensors, tables, name)
    return {split: tensor.__getitem__ for split, tensor in tensors.items()}


def _check_alike(tensors: Mapping[SplitName, Tensor], tables: Mapping[SplitName, Table], name: str) -> None:
    kinds = {split: (tuple(tensor.shape[1:]), str(tensor.dtype)[6:]) for split, tensor in tensors.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{tables['train'].where}: column {name!r} differs from split to split: {kinds}")


def _tokenised(
    tables: Mapping[SplitName, Table], texts: list[str], tokenizer: Any, *, length: int
) -> dict[SplitName, dict[str, Tensor]]:
    made = {
        split: encoded(tokenizer, [table.texts(name) for name in texts], length=length)
        for split, table in tables.items()
    }
    # To a model that tells no segments apart they would mean something else, and all 0 is what the others assume.
    if not any(_SEGMENTS in tokens and tokens[_SEGMENTS].any() for tokens in made.values()):
        made = {split: {k: t for k, t in tokens.items() if k != _SEGMENTS} for split, tokens in made.items()}
    return made


def _targets(table: Table, label: str | tuple[str, ...] | None, names: list[str]) -> Any:
    """What is to be predicted: a tensor, or several by name."""
    found = {}
    for name in names:
        try:
            numbers = table.numbers(name)
        except DataError as error:
            raise DataError(f"{error}; the option `label` names what is to be predicted") from error
        found[name] = as_target(numbers, where=f"{table.where}: column {name!r}")
    return found[label] if isinstance(label, str) and names else found
