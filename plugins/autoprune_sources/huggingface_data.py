"""Data sets as Hugging Face's libraries keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autoprune.plugin import Data, SourceContext, SplitName
from autoprune.toolkit.files import existing
from autoprune_sources._options import Bounds, NormalizedSource, checked_bounds


class HuggingFaceData(NormalizedSource):
    """Columns of a data set, text by a tokenizer: ``{use: huggingface, path: sst2, tokenizer: bert, text: sentence}``.

    The folder is what ``save_to_disk`` of ``datasets`` wrote, or holds parquet, csv or json files by split, such as
    ``train.csv`` or ``train-00000-of-00002.parquet``. Sentences become what the tokenizer makes of them
    (``input_ids``, ``attention_mask``, …; ``token_type_ids`` where they are not 0 throughout), cut and padded to
    ``max_length`` tokens, and reach the model by these keywords, behind those of ``columns``. Nothing is downloaded.
    Needs the extra ``autoprune[huggingface]``.
    """

    name = "huggingface"

    path: Path = Field(description="Folder of the data set, or a single file of training samples.")
    splits: dict[SplitName, str] = Field(
        default={},
        description="What splits are called there, where it is something else: {test: validation_matched}.",
    )
    tokenizer: Path | None = Field(
        default=None, description="Folder that tokenizer.save_pretrained wrote; text needs one."
    )
    text: str | tuple[str, str] | None = Field(
        default=None, description="Column of sentences, or the two columns of a pair: [premise, hypothesis]."
    )
    max_length: int = Field(default=128, ge=1, description="Tokens of a sentence or pair, cut or padded.")
    columns: dict[str, str] = Field(
        default={},
        description="{keyword: column} of what the model takes besides: numbers, lists of numbers of one length (tokens"
        " that are there already, too), or images.",
    )
    label: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default="label",
        description="Column that is to be predicted: integer classes, numbers, or lists; of several, a list, which"
        " gives targets by name; null where there is none.",
    )
    target_text: str | None = Field(
        default=None,
        description="In place of the label, the column of sentences that a sequence-to-sequence model is to say.",
    )
    max_target_length: int | None = Field(
        default=None, ge=1, description="Tokens of these; as of the others if left out."
    )
    decoder_start: int | None = Field(
        default=None,
        ge=0,
        description="Token that the decoder begins with, the model's decoder_start_token_id; read from the model's"
        " configuration if that lies beside the tokenizer.",
    )
    size: int | None = Field(default=None, ge=1, description="Scale and centre-crop images to so many pixels, square.")
    channels: Literal[1, 3] | None = Field(
        default=None, description="Of images: 1 grey, 3 RGB; as they are if left out."
    )
    bounds: Bounds | None = Field(
        default=None,
        description="Smallest and largest legal value of the first input, floats, needed to attack it; images have"
        " their own.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.text is None and not self.columns:
            raise ValueError("name what the model takes: text with a tokenizer, or columns: {keyword: column}")
        if (self.text is None) != (self.tokenizer is None):
            raise ValueError("text and tokenizer belong together")
        if self.target_text is not None:
            if self.text is None:
                raise ValueError("target_text belongs to text and a tokenizer")
            if self.label not in ("label", None):
                raise ValueError("label and target_text are both what is to be predicted; give one")
        elif self.max_target_length is not None or self.decoder_start is not None:
            raise ValueError("max_target_length and decoder_start belong to target_text")
        return self

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that is not there is carved from another."""
        import torch

        from autoprune.toolkit.splits import number_of_classes, three_splits
        from autoprune_sources._huggingface_data import read_samples

        found = read_samples(self, existing(self.path, ctx), ctx)
        first = next(iter(found["train"].inputs(torch.arange(1)).values()))
        return Data(
            **three_splits(found, **self._carving),
            classes=number_of_classes(found),
            normalization=None if self.normalize is None else self.normalize.of_samples(first),
            bounds=checked_bounds(self.bounds, first),
        )
