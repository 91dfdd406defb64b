from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from autoprune.plugin import Data, SourceContext, Split


@pytest.fixture
def ctx(tmp_path):
    """A spec's folder and a cache, both empty."""
    folder, cache = tmp_path / "spec", tmp_path / "cache"
    folder.mkdir()
    return SourceContext(folder=folder, cache=cache, seed=0)


@pytest.fixture(scope="session")
def shared():
    """Folder of the real data and models; a missing one fails the test."""
    root = Path(__file__).parents[3]
    folder = (root / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()
    assert folder.is_dir(), f"{folder} is missing; point AUTOPRUNE_DATA to the real data"
    return folder


@pytest.fixture
def contents():
    """A split as a multiset of its samples."""

    def of(split: Split) -> Counter:
        inputs, targets = split.fetch(torch.arange(len(split)))
        return Counter((x.numpy().tobytes(), int(y)) for x, y in zip(inputs.first, targets, strict=True))

    return of


@pytest.fixture
def check_distinct(contents):
    """Data whose samples all differ: the splits share none, and hold so many in all."""

    def check(data: Data, total: int) -> None:
        train, validation, test = (contents(data.split(name)) for name in ("train", "validation", "test"))
        assert not train & validation
        assert not train & test
        assert not validation & test
        assert sum((train + validation + test).values()) == total
        assert max((train + validation + test).values()) == 1

    return check


@pytest.fixture(scope="session")
def sentences(shared):
    """SST-2, 300 sentences with their class for each split, as pandas reads them."""
    return {
        split: pd.read_parquet(shared / f"data/sst2/{split}.parquet").head(300)
        for split in ("train", "validation", "test")
    }


@pytest.fixture(scope="session")
def tokenizer_folder(sentences, tmp_path_factory):
    """A BERT-like tokenizer of the training sentences' words, as ``save_pretrained`` writes it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.train_from_iterator(
        sentences["train"]["sentence"], trainers.WordLevelTrainer(vocab_size=500, special_tokens=[*special.values()])
    )
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": text for name, text in special.items()},
    )
    made.save_pretrained(folder)
    return folder
