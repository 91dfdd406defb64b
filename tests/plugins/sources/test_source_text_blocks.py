from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from autoprune import DataError
from autoprune.testing import DataSourceConformance
from autoprune_sources.text_blocks import TextBlocks

SPLITS = ("train", "validation", "test")
LENGTH = 24


@pytest.fixture
def write(ctx, sentences):
    """Write the sentences of SST-2, as text or as tables."""

    def write(form="txt", splits=SPLITS):
        for split in splits:
            table = sentences[split]
            if form == "txt":
                lines = "\n\n".join(table["sentence"])  # empty lines count for nothing
                (ctx.folder / f"{split}.txt").write_text(lines, encoding="utf-8")
            else:
                table.to_parquet(ctx.folder / f"{split}.parquet")
        return {split: sentences[split]["sentence"].tolist() for split in splits}

    return write


def load(ctx, **options):
    return TextBlocks.model_validate({"path": ".", "length": LENGTH, **options}).load(ctx)


def everything(split):
    return split.fetch(torch.arange(len(split)))


def blocks_in(split):
    """The blocks, sorted; they are input and target alike."""
    inputs, targets = everything(split)
    assert (inputs.first.dtype, targets.dtype) == (torch.int64, torch.int64)
    assert torch.equal(inputs.first, targets)
    return sorted(inputs.first.tolist())


def cut(tokens):
    """The reference: tokens as whole blocks, sorted."""
    return sorted(tokens[start : start + LENGTH] for start in range(0, len(tokens) - LENGTH + 1, LENGTH))


@pytest.mark.parametrize(("form", "options"), [("txt", {}), ("parquet", {"text": "sentence"})])
def test_tokens_of_a_tokenizer(ctx, write, tokenizer_folder, form, options):
    lines = write(form)
    data = load(ctx, tokenizer=str(tokenizer_folder), **options)
    assert (data.classes, data.bounds, data.normalization) == (None, None, None)
    reference = AutoTokenizer.from_pretrained(tokenizer_folder)
    for split in SPLITS:
        tokens = []
        for line in lines[split]:
            tokens += reference.encode(line, add_special_tokens=False)
            tokens.append(reference.sep_token_id)
        assert blocks_in(data.split(split)) == cut(tokens)
        assert list(everything(data.split(split))[0].kwargs) == ["input_ids"]


def test_words_of_the_training_split(ctx, write):
    lines = write()
    data = load(ctx, vocabulary=300)
    counts = Counter(word for line in lines["train"] for word in line.split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    numbers = {word: 3 + rank for rank, word in enumerate(ranked[:297])}
    for split in SPLITS:
        tokens = [number for line in lines[split] for number in (*(numbers.get(word, 1) for word in line.split()), 0)]
        assert blocks_in(data.split(split)) == cut(tokens)
    assert max(map(max, blocks_in(data.train))) == 299


def test_capitals(ctx):
    (ctx.folder / "train.txt").write_text("Good good GOOD bad\n" * 90)
    assert len(np.unique(blocks_in(load(ctx).train))) == 5
    assert np.unique(blocks_in(load(ctx, lowercase=True).train)).tolist() == [0, 3, 4]


def test_what_is_missing_is_the_end_of_the_training_text(ctx):
    (ctx.folder / "book.txt").write_text("\n".join(f"word{line} is here" for line in range(100)))
    data = load(ctx, path="book.txt", length=4, test=10, validation=0.2)
    tokens, _ = everything(data.train)
    assert sorted(tokens.first[:, 0].tolist()) == list(range(5, 75))  # behind "here" and "is", its words and no others
    for split, count in ((data.validation, 20), (data.test, 10)):
        assert blocks_in(split) == [[1, 4, 3, 0]] * count  # words that were not trained on
    # As they stand: with a block of two sentences, these are neighbours.
    numbers = sorted(
        everything(load(ctx, path="book.txt", length=8, test=10, validation=20).train)[0].first[:, ::4].tolist()
    )
    words = sorted(f"word{line}" for line in range(70))
    lines = [[int(words[number - 5][4:]) for number in pair] for pair in numbers]
    assert sorted(lines) == [[line, line + 1] for line in range(0, 70, 2)]


def test_validation_may_be_the_end_of_the_test_text(ctx):
    for split, count in (("train", 300), ("test", 200)):
        lines = [f"{split}{row}" for row in range(count)]
        (ctx.folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    data = load(ctx, validation=0.25, validation_from="test", lowercase=False, vocabulary=1000)
    alone = load(ctx, validation=0.25, test=0.25, vocabulary=1000)
    assert [len(data.train), len(data.validation), len(data.test)] == [300 * 2 // LENGTH, 100 // LENGTH, 300 // LENGTH]
    assert len(alone.train) < len(data.train)


def test_the_order_of_blocks_is_mixed(ctx, write):
    write()
    first = [tuple(row) for row in everything(load(ctx).train)[0].first.tolist()]
    assert first == [tuple(row) for row in everything(load(ctx).train)[0].first.tolist()]
    (ctx.folder / "train.txt").write_text("\n".join(map(str, range(2000))))
    tokens, _ = everything(load(ctx, vocabulary=3000).train)
    starts = tokens.first[:, 0].tolist()
    assert starts != sorted(starts)


def test_the_first_argument(ctx, write):
    write()
    inputs, _ = everything(load(ctx, keyword="").train)
    assert len(inputs.args) == 1
    assert list(everything(load(ctx, keyword="tokens").train)[0].kwargs) == ["tokens"]


@pytest.mark.parametrize("words", [True, False])
def test_masked_tokens(ctx, write, tokenizer_folder, words):
    write()
    options = {"vocabulary": 300} if words else {"tokenizer": str(tokenizer_folder)}
    end, mask = (0, 2) if words else (3, 4)  # of the tokenizer, as its own file lists them
    plain, data = load(ctx, **options), load(ctx, mask=0.15, **options)
    for split in SPLITS:
        whole, _ = everything(plain.split(split))
        inputs, targets = everything(data.split(split))
        given = inputs.kwargs["input_ids"]
        chosen = targets != -100
        assert (given[chosen] == mask).all()
        assert torch.equal(torch.where(chosen, targets, given), whole.first)
        assert (targets[chosen] != end).all()
        assert chosen.any(1).all()
        words_in_all = (whole.first != end).sum()
        assert chosen.sum() / words_in_all == pytest.approx(0.15, abs=0.02)
        # Every candidate gets the same ones.
        again = load(ctx, mask=0.15, **options).split(split)
        assert torch.equal(everything(again)[1], targets)
    if not words:
        inputs, _ = everything(load(ctx, mask=0.15, mask_token=77, **options).test)
        assert torch.equal(inputs.first == 77, (given == 4) | (whole.first == 77))


def test_a_block_has_one_masked_token_at_least(ctx):
    (ctx.folder / "train.txt").write_text("one two three four\n" * 99)
    _, targets = everything(load(ctx, mask=0.001, length=5).train)
    assert (targets != -100).sum(1).tolist() == [1] * len(targets)


def test_special_tokens_may_be_named(ctx, write, tokenizer_folder):
    lines = write()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.sep_token = tokenizer.mask_token = None
    tokenizer.save_pretrained(ctx.folder / "plain")
    with pytest.raises(DataError, match=r"no token for the end of a sentence \(eos, sep\); name one by end_token"):
        load(ctx, tokenizer="plain")
    data = load(ctx, tokenizer="plain", end_token=9)
    tokens = [token for line in lines["test"] for token in (*tokenizer.encode(line, add_special_tokens=False), 9)]
    assert blocks_in(data.test) == cut(tokens)
    with pytest.raises(DataError, match="no token for what is masked; name one by mask_token"):
        load(ctx, tokenizer="plain", end_token=9, mask=0.1)
    tokenizer.eos_token = "the"
    tokenizer.save_pretrained(ctx.folder / "plain")
    assert Counter(np.ravel(blocks_in(load(ctx, tokenizer="plain").test)).tolist())[tokenizer.eos_token_id] > 300


def test_files_that_do_not_fit_are_told(ctx, write, sentences):
    with pytest.raises(DataError, match=r"spec: no split is called train; there: nothing$"):
        load(ctx)
    (ctx.folder / "book.txt").write_text("a b")
    with pytest.raises(DataError, match=r"spec: no split is called train; there: book\.txt$"):
        load(ctx)
    with pytest.raises(DataError, match=r"test: 0\.2 of 1 training samples would leave a split empty"):
        load(ctx, path="book.txt")
    (ctx.folder / "book.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"book\.txt: cannot be read as UTF-8 text"):
        load(ctx, path="book.txt")
    write("parquet")
    with pytest.raises(DataError, match=r"train: no column 'text' for the option `text`; known: label, sentence"):
        load(ctx)
    with pytest.raises(DataError, match=r"spec: train has 5797 tokens, too few for a block of 6000; `length` says so"):
        load(ctx, text="sentence", length=6000)
    with pytest.raises(DataError, match=r"there is no 'bert' in "):
        load(ctx, text="sentence", tokenizer="bert")


def test_an_empty_sentence_in_a_table_is_told(ctx):
    pd.DataFrame({"text": ["a", None]}).to_parquet(ctx.folder / "train.parquet")
    with pytest.raises(DataError, match="column 'text' is empty in 1 rows, the first of them 1"):
        load(ctx)


@pytest.mark.parametrize(
    "options",
    [{"mask": 1}, {"length": 1}, {"vocabulary": 3}, {"mask": 0.1, "mask_token": 4}, {"end_token": 4},
     {"tokenizer": "a", "mask_token": 4}],
)  # fmt: skip
def test_impossible_options_are_refused_with_the_spec(options):
    with pytest.raises(ValidationError):
        TextBlocks.model_validate({"path": ".", **options})


class TestWords(DataSourceConformance):
    @pytest.fixture
    def component(self):
        return TextBlocks.model_validate({"path": ".", "length": LENGTH})

    @pytest.fixture
    def ctx(self, ctx, sentences):
        ctx.folder.mkdir(exist_ok=True)
        (ctx.folder / "train.txt").write_text("\n".join(sentences["train"]["sentence"]), encoding="utf-8")
        return ctx


class TestMasked(TestWords):
    @pytest.fixture
    def component(self, tokenizer_folder):
        return TextBlocks.model_validate(
            {"path": "train.txt", "length": LENGTH, "tokenizer": str(tokenizer_folder), "mask": 0.15}
        )
