from __future__ import annotations

import importlib.util
import json
import shutil
import socket

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits
from transformers import AutoTokenizer, BartConfig

from autoprune import DataError
from autoprune.plugin import Normalization
from autoprune.testing import DataSourceConformance
from autoprune.toolkit.packages import optional
from autoprune_sources import _tokens
from autoprune_sources.huggingface_data import HuggingFaceData

SPLITS = ("train", "validation", "test")
LENGTH = 16


@pytest.fixture
def offline(monkeypatch):
    """Nobody opens a connection, or tries to."""
    tried = []

    def refused(_, address):
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    yield
    assert not tried


@pytest.fixture
def write(ctx, sentences):
    """Write the sentences of SST-2 in some form."""

    def write(form="parquet", rows=None, **columns):
        folder = ctx.folder / "sst2"
        folder.mkdir()
        tables = {split: table.assign(**columns).head(rows or len(table)) for split, table in sentences.items()}
        if form == "datasets":
            made = {split: datasets.Dataset.from_pandas(table) for split, table in tables.items()}
            datasets.DatasetDict(made).save_to_disk(str(folder))
            return tables
        for split, table in tables.items():
            if form == "parquet":
                table.to_parquet(folder / f"{split}.parquet")
            elif form == "shards":
                for number, part in enumerate((table[:7], table[7:])):
                    part.to_parquet(folder / f"{split}-0000{number}-of-00002.parquet")
            elif form == "csv":
                table.to_csv(folder / f"{split}.csv", index=False)
            elif form == "jsonl":
                table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
            else:
                table.to_json(folder / f"{split}.json", orient="records")
        return tables

    return write


def load(ctx, tokenizer=None, **options):
    given = {"path": "sst2", "max_length": LENGTH, **options}
    if tokenizer is not None:
        given = {"tokenizer": str(tokenizer), "text": "sentence", **given}
    return HuggingFaceData.model_validate(given).load(ctx)


def everything(split):
    return split.fetch(torch.arange(len(split)))


def rows_of(split):
    """Inputs and target of each sample, as a sorted list of plain numbers."""
    inputs, targets = everything(split)
    return sorted(
        (*(tuple(tensor[i].flatten().tolist()) for tensor in inputs.tensors), targets[i].tolist())
        for i in range(len(split))
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["datasets", "parquet", "shards", "csv", "jsonl", "json"])
def test_sentences_are_what_the_tokenizer_makes_of_them(ctx, write, tokenizer_folder, form, offline):
    tables = write(form)
    data = load(ctx, tokenizer_folder)
    assert (data.classes, data.bounds, data.normalization) == (2, None, None)
    reference = AutoTokenizer.from_pretrained(tokenizer_folder)
    for split in SPLITS:
        inputs, targets = everything(data.split(split))
        assert list(inputs.kwargs) == ["input_ids", "attention_mask"]
        assert {tensor.dtype for tensor in (*inputs.tensors, targets)} == {torch.int64}
        assert {tuple(tensor.shape) for tensor in inputs.tensors} == {(300, LENGTH)}
        wanted = [
            reference(sentence, padding="max_length", truncation=True, max_length=LENGTH)
            for sentence in tables[split]["sentence"]
        ]
        assert rows_of(data.split(split)) == sorted(
            (tuple(each["input_ids"]), tuple(each["attention_mask"]), label)
            for each, label in zip(wanted, tables[split]["label"], strict=True)
        )


def test_pairs_have_segments(ctx, write, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(_tokens, "_ROWS", 7)  # the last batch is a smaller one
    table = write(rows=20, other=lambda table: table["sentence"].str[::-1])["test"]
    data = load(ctx, tokenizer_folder, text=["sentence", "other"])
    reference = AutoTokenizer.from_pretrained(tokenizer_folder)
    wanted = reference(
        table["sentence"].tolist(), table["other"].tolist(), padding="max_length", truncation=True, max_length=LENGTH
    )
    inputs, _ = everything(data.test)
    assert list(inputs.kwargs) == ["input_ids", "token_type_ids", "attention_mask"]
    assert inputs.kwargs["token_type_ids"].sum() > 20
    assert rows_of(data.test) == sorted(
        zip(*(map(tuple, wanted[keyword]) for keyword in inputs.kwargs), table["label"], strict=True)
    )


def test_carved_splits(ctx, tokenizer_folder, sentences, check_distinct):
    table = sentences["train"].drop_duplicates("sentence").assign(row=lambda table: range(len(table)))
    table.to_csv(ctx.folder / "all.csv", index=False)
    data = load(ctx, path="all.csv", columns={"row": "row"}, validation=20, test=0.25)
    assert [len(data.split(split)) for split in SPLITS] == [205, 20, 75]
    rows = [row for split in SPLITS for row in everything(data.split(split))[0].first.tolist()]
    assert sorted(rows) == list(range(300))
    for split in SPLITS:
        inputs, targets = everything(data.split(split))
        assert table["label"].to_numpy()[inputs.first].tolist() == targets.tolist()


def test_splits_of_other_names(ctx, tokenizer_folder, sentences):
    made = {"train": sentences["train"], "validation_matched": sentences["validation"], "test": sentences["test"]}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_pandas(table) for name, table in made.items()})
    saved.save_to_disk(str(ctx.folder / "mnli"))
    data = load(ctx, tokenizer_folder, path="mnli", splits={"test": "validation_matched"}, validation=10)
    assert [len(data.split(split)) for split in SPLITS] == [290, 10, 300]
    assert everything(data.test)[1].sum() == sentences["validation"]["label"].sum()
    data = load(ctx, tokenizer_folder, path="mnli", splits={"test": "train", "train": "test"}, validation=10)
    assert everything(data.test)[1].sum() == sentences["train"]["label"].sum()
    with pytest.raises(
        DataError, match=r"splits: test: .*mnli has no split 'validation_macthed'; did you mean 'validat"
    ):
        load(ctx, tokenizer_folder, path="mnli", splits={"test": "validation_macthed"})
    with pytest.raises(
        DataError, match=r"mnli: no split is called train; there: .*; the option `splits` says which is"
    ):
        load(ctx, tokenizer_folder, path="mnli", splits={"test": "train"})


def test_a_single_saved_data_set(ctx, tokenizer_folder, sentences):
    made = datasets.Dataset.from_pandas(sentences["train"]).select(range(299, 99, -1))
    made.save_to_disk(str(ctx.folder / "sst2"))
    data = load(ctx, tokenizer_folder)
    assert (
        sum(int(everything(data.split(split))[1].sum()) for split in SPLITS) == sentences["train"]["label"][100:].sum()
    )


def test_columns_of_numbers(ctx):
    random = np.random.default_rng(0)
    tokens, shades = random.integers(0, 900, (30, 5)), random.normal(size=(30, 2, 3))
    numbers = random.normal(size=30)
    features = datasets.Features(
        tokens=datasets.Sequence(datasets.Value("int32")), shades=datasets.Array2D((2, 3), "float64"),
        fixed=datasets.Sequence(datasets.Value("bool"), length=5), number=datasets.Value("float64"),
        many=datasets.Sequence(datasets.Value("float32")), label=datasets.ClassLabel(names=list("abcde")),
    )  # fmt: skip
    columns = {"tokens": tokens.tolist(), "shades": shades.tolist(), "fixed": (tokens > 400).tolist(),
               "number": numbers.tolist(), "many": shades[:, 0].tolist(),
               "label": (tokens[:, 0] % 5).tolist()}  # fmt: skip
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(ctx.folder / "sst2"))
    data = load(ctx, columns={"x": "shades", "ids": "tokens", "mask": "fixed"}, bounds=[-9, 9], validation=5, test=5,
                normalize={"mean": [0, 1], "std": [1, 1]})  # fmt: skip
    assert (data.classes, data.bounds, data.normalization) == (5, (-9, 9), Normalization((0, 1), (1, 1)))
    for split in SPLITS:
        inputs, targets = everything(data.split(split))
        kinds = {keyword: tensor.dtype for keyword, tensor in inputs.kwargs.items()}
        assert kinds == {"x": torch.float32, "ids": torch.int64, "mask": torch.bool}
        rows = [tokens.tolist().index(row) for row in inputs.kwargs["ids"].tolist()]
        assert np.array_equal(inputs.kwargs["x"].numpy(), shades[rows].astype(np.float32))
        assert np.array_equal(inputs.kwargs["mask"].numpy(), tokens[rows] > 400)
        assert targets.tolist() == (tokens[rows, 0] % 5).tolist()
    inputs, targets = everything(load(ctx, columns={"ids": "tokens"}, label=["number", "many"]).train)
    rows = [tokens.tolist().index(row) for row in inputs.first.tolist()]
    assert np.array_equal(targets["number"].numpy(), numbers[rows].astype(np.float32))
    assert np.array_equal(targets["many"].numpy(), shades[rows, 0].astype(np.float32))
    data = load(ctx, columns={"ids": "tokens"}, label=None)
    assert (everything(data.train)[1], data.classes) == ({}, None)
    with pytest.raises(DataError, match="bounds are of floats; the first input is int64"):
        load(ctx, columns={"ids": "tokens"}, bounds=[0, 1])


def test_images_beside_their_sentences(ctx, tokenizer_folder, sentences):
    digits, folder = load_digits(), ctx.folder / "sst2"
    pixels = (digits.images[:40] * 15).astype(np.uint8)
    captions = sentences["train"]["sentence"][:40].tolist()
    made = {"image": [Image.fromarray(image) for image in pixels], "caption": captions, "label": digits.target[:40]}
    features = datasets.Features(image=datasets.Image(), caption=datasets.Value("string"), label=datasets.Value("int8"))
    datasets.Dataset.from_dict(made, features=features).save_to_disk(str(folder))
    data = load(ctx, tokenizer_folder, text="caption", columns={"pixel_values": "image"}, channels=3,
                normalize={"mean": [0.5] * 3, "std": [0.5] * 3})  # fmt: skip
    assert (data.bounds, data.normalization.mean) == ((0, 1), (0.5, 0.5, 0.5))
    inputs, targets = everything(data.train)
    assert list(inputs.kwargs) == ["pixel_values", "input_ids", "attention_mask"]
    reference = AutoTokenizer.from_pretrained(tokenizer_folder)
    wanted = reference(captions, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    for image, tokens, target in zip(inputs.first, inputs.kwargs["input_ids"].tolist(), targets, strict=True):
        row = wanted.index(tokens)
        assert torch.equal(image, torch.from_numpy(pixels[row] / np.float32(255)).expand(3, 8, 8))
        assert digits.target[row] == target
    inputs, _ = load(ctx, columns={"image": "image"}, size=4).test.fetch(torch.arange(2))
    assert inputs.first.shape == (2, 1, 4, 4)


@pytest.fixture
def spoken(ctx, tokenizer_folder, write):
    """A tokenizer beside a model's configuration, and sentences to be said backwards."""
    folder = ctx.folder / "bart"
    shutil.copytree(tokenizer_folder, folder)
    config = BartConfig(
        vocab_size=500, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3,
    )  # fmt: skip
    config.save_pretrained(folder)
    tables = write(backwards=lambda table: table["sentence"].str.split().str[::-1].str.join(" "))
    return folder, config, tables


@pytest.mark.slow
def test_sequence_to_sequence(ctx, spoken):
    folder, config, tables = spoken
    data = load(ctx, folder, target_text="backwards", max_target_length=9)
    inputs, targets = everything(data.test)
    assert list(inputs.kwargs) == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert targets.shape == inputs.kwargs["decoder_input_ids"].shape == (300, 9)
    reference = AutoTokenizer.from_pretrained(folder)
    table = tables["test"]
    said = reference(table["backwards"].tolist(), padding="max_length", truncation=True, max_length=9)["input_ids"]
    heard = reference(table["sentence"].tolist(), padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    wanted = sorted(
        (tuple(a), tuple(-100 if token == 0 else token for token in b)) for a, b in zip(heard, said, strict=True)
    )
    assert sorted(zip(map(tuple, inputs.first.tolist()), map(tuple, targets.tolist()), strict=True)) == wanted
    # A model of transformers, which shifts labels by itself, says the same of them.
    torch.manual_seed(0)
    model = optional("transformers").BartForConditionalGeneration(config).eval()
    few, labels = data.test.fetch(torch.arange(8))
    with torch.no_grad():
        ours = few.feed(model).logits
        theirs = model(input_ids=few.kwargs["input_ids"], attention_mask=few.kwargs["attention_mask"], labels=labels)
    assert torch.equal(ours, theirs.logits)


def test_the_token_that_a_decoder_begins_with(ctx, spoken, tokenizer_folder):
    folder, _, _ = spoken
    with pytest.raises(
        DataError, match=r"does not say which token the decoder begins with; write decoder_start: the de"
    ):
        load(ctx, tokenizer_folder, target_text="backwards")
    for options, first in (({}, 3), ({"decoder_start": 7}, 7)):
        inputs, _ = load(ctx, folder, target_text="backwards", **options).train.fetch(torch.arange(5))
        assert inputs.kwargs["decoder_input_ids"][:, 0].tolist() == [first] * 5
    (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 2}))
    inputs, targets = load(ctx, folder, target_text="backwards").train.fetch(torch.arange(5))
    assert inputs.kwargs["decoder_input_ids"][:, 0].tolist() == [2] * 5
    assert targets.shape == (5, LENGTH)


def test_columns_that_do_not_fit_are_told(ctx, write, tokenizer_folder):
    write(rows=20, ragged=lambda table: table["label"].map(lambda label: [1] * (label + 1)))
    for options, message in (
        ({"text": "sentance"}, r"sst2: train: no column 'sentance' for the option `text`; did you mean 'sentence'\?"),
        ({"text": "label"}, r"sst2: train: column 'label' holds int64, not text"),
        (
            {"label": "sentence"},
            r"column 'sentence' holds text, not numbers; the option `label` names what is to be pre",
        ),
        (
            {"label": "lable"},
            r"no column 'lable' for the option `label` \(null where there is none\); did you mean 'label'\?",
        ),
        ({"label": "ragged"}, r"column 'ragged' holds lists of 1 to 2; pad them to one length"),
        ({"columns": {"x": "ragged"}}, r"column 'ragged' holds lists of 1 to 2; pad them to one length"),
        ({"columns": {"x": "sentence"}}, r"column 'sentence' holds text, not numbers"),
        ({"max_length": 2}, r"of 2 tokens a sentence would have none: the tokenizer adds 2 of its own"),
        ({"path": "sst"}, r"there is no 'sst' in .*; did you mean 'sst2'\?"),
        ({"tokenizer": "sst2"}, r"sst2: no tokenizer_config\.json in it; write one with tokenizer\.save_pretrained"),
        ({"tokenizer": "bert"}, r"there is no 'bert' in "),
    ):
        with pytest.raises(DataError, match=message) as told:
            load(ctx, **{"tokenizer": tokenizer_folder, **options})
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": [[1], None], "label": [0, 1]}, r"train: column 'x' is empty in 1 rows, the first of them 1"),
        ({"x": [[1], [None]], "label": [0, 1]}, r"train: column 'x' holds lists with nothing in some place"),
        ({"x": [[1], [2]], "label": [0, None]}, r"train: column 'label' is empty in 1 rows, the first of them 1"),
        ({"x": [[1], [2]], "label": [0, -1]}, r"train: column 'label': class -1 at sample 1"),
        ({"x": [[0.5], [float("nan")]], "label": [0, 1]}, r"train: column 'x': holds NaN, infinity"),
        ({"x": [{"a": 1}, {"a": 2}], "label": [0, 1]}, r"train: column 'x' holds struct<a: int64>, not numbers"),
        ({"x": pa.array([], pa.int64()), "label": pa.array([], pa.int64())}, r"train: no rows"),
    ],
)
def test_rows_that_do_not_fit_are_told(ctx, table, message):
    (ctx.folder / "sst2").mkdir()
    pq.write_table(pa.table(table), ctx.folder / "sst2" / "train.parquet")
    with pytest.raises(DataError, match=message):
        load(ctx, columns={"x": "x"})


def test_splits_that_differ_are_told(ctx):
    (ctx.folder / "sst2").mkdir()
    for split, length in (("train", 3), ("test", 4)):
        table = pd.DataFrame({"x": [[1] * length] * 5, "label": [0] * 5})
        table.to_parquet(ctx.folder / "sst2" / f"{split}.parquet")
    with pytest.raises(
        DataError, match=r"column 'x' differs from split to split: {'train': \(\(3,\), 'int64'\), 'test'"
    ):
        load(ctx, columns={"x": "x"})


def test_files_that_are_none_are_told(ctx):
    folder = ctx.folder / "sst2"
    folder.mkdir()
    with pytest.raises(DataError, match=r"sst2: no split is called train; there: nothing; the option `splits`"):
        load(ctx, columns={"x": "x"})
    (folder / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"sst2: train: cannot be read: "):
        load(ctx, columns={"x": "x"})
    (folder / "train.csv").write_text("x,label\n1,0\n")
    with pytest.raises(DataError, match=r"sst2: train is there twice: train\.csv, train\.parquet"):
        load(ctx, columns={"x": "x"})
    (folder / "train.parquet").unlink()
    (folder / "train.csv").write_text("x,label\n1\n2,3\n")
    with pytest.raises(DataError, match=r"sst2: train: cannot be read: .*Expected 2 columns, got 1"):
        load(ctx, columns={"x": "x"})
    (folder / "train.csv").unlink()
    (folder / "train.json").write_text("[{")
    with pytest.raises(DataError, match=r"sst2: train: cannot be read: "):
        load(ctx, columns={"x": "x"})
    (folder / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"sst2: cannot be read: "):
        load(ctx, columns={"x": "x"})


def test_what_has_to_be_installed_is_told(ctx, write, tokenizer_folder, monkeypatch):
    write("datasets")
    find = importlib.util.find_spec
    for missing in ("transformers", "datasets"):
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, missing=missing: None if name == missing else find(name)
        )
        with pytest.raises(DataError, match=rf"needs the package {missing}: pip install 'autoprune\[huggingface\]'"):
            load(ctx, tokenizer_folder)


def test_a_tokenizer_without_padding_is_told(ctx, write, tokenizer_folder):
    write()
    folder = ctx.folder / "gpt"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        DataError, match=r"no token for padding; say which, as in tokenizer\.pad_token = tokenizer\.eos"
    ):
        load(ctx, folder)


def test_a_damaged_tokenizer_is_told(ctx, write, tokenizer_folder, offline):
    write()
    shutil.copytree(tokenizer_folder, ctx.folder / "bad")
    (ctx.folder / "bad" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad: cannot be opened as a tokenizer: ") as told:
        load(ctx, "bad")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"name what the model takes: text with a tokenizer, or columns"),
        ({"text": "a"}, "text and tokenizer belong together"),
        ({"tokenizer": "a", "columns": {"x": "x"}}, "text and tokenizer belong together"),
        ({"columns": {"x": "x"}, "target_text": "a"}, "target_text belongs to text and a tokenizer"),
        (
            {"text": "a", "tokenizer": "b", "target_text": "a", "label": "stars"},
            "label and target_text are both what is",
        ),
        ({"text": "a", "tokenizer": "b", "decoder_start": 0}, "decoder_start belong to target_text"),
        ({"text": ["a", "b", "c"], "tokenizer": "b"}, "at most 2"),
        ({"columns": {"x": "x"}, "splits": {"dev": "test"}}, "'train', 'validation' or 'test'"),
        ({"columns": {"x": "x"}, "label": []}, "at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_spec(options, message):
    with pytest.raises(ValidationError, match=message):
        HuggingFaceData.model_validate({"path": "a", **options})


class TestSentences(DataSourceConformance):
    repeated = 0.1

    @pytest.fixture
    def component(self, tokenizer_folder):
        return HuggingFaceData(path="train.csv", tokenizer=tokenizer_folder, text="sentence", max_length=LENGTH)

    @pytest.fixture
    def ctx(self, ctx, sentences):
        sentences["train"].to_csv(ctx.folder / "train.csv")
        return ctx


class TestSequences(TestSentences):
    @pytest.fixture
    def component(self, tokenizer_folder):
        return HuggingFaceData(
            path="train.csv", tokenizer=tokenizer_folder, text="sentence", max_length=LENGTH, target_text="sentence",
            decoder_start=2,
        )  # fmt: skip
