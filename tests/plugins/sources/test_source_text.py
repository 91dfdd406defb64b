from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from autoprune import DataError
from autoprune_sources.text import Text


@pytest.fixture
def write(ctx):
    """Write the sentences of a split, with the classes 0, 1, 0, 1, …."""

    def write(name, sentences, *, text="sentence", label="label", **columns):
        table = {text: sentences, label: [row % 2 for row in range(len(sentences))], **columns}
        pq.write_table(pa.table(table), ctx.folder / f"{name}.parquet")

    return write


def load(ctx, **options):
    return Text.model_validate({"path": ".", **options}).load(ctx)


def everything(split):
    batch, targets = split.fetch(torch.arange(len(split)))
    tokens = batch.first
    return tokens, targets


def sentences_of(split):
    tokens, targets = everything(split)
    return Counter((tuple(row), target) for row, target in zip(tokens.tolist(), targets.tolist(), strict=True))


def test_words_are_numbered_by_their_frequency_in_training(ctx, write):
    write("train", ["b b c", "b c a d", "", "b"])
    write("validation", ["d c b a", "zebra b"])
    write("test", ["zebra", " a\tb\nzebra  b c d "])
    data = load(ctx, length=4)
    # b 4 times, c twice, a and d once each, in the order of the alphabet; 0 pads, 1 is unknown.
    assert sentences_of(data.train) == Counter(
        [((2, 2, 3, 0), 0), ((2, 3, 4, 5), 1), ((1, 0, 0, 0), 0), ((2, 0, 0, 0), 1)]
    )
    assert sentences_of(data.validation) == Counter([((5, 3, 2, 4), 0), ((1, 2, 0, 0), 1)])
    assert sentences_of(data.test) == Counter([((1, 0, 0, 0), 0), ((4, 2, 1, 2), 1)])
    assert everything(data.train)[0].dtype == torch.int64
    assert (data.classes, data.bounds, data.normalization) == (2, None, None)


def test_the_vocabulary_is_cut_at_the_rarest(ctx, write):
    write("train", ["b b c", "b c a d"])
    write("validation", ["a"])
    write("test", ["b"])
    assert sentences_of(load(ctx, length=4, vocabulary=4).train) == Counter([((2, 2, 3, 0), 0), ((2, 3, 1, 1), 1)])


def test_capitals_count_unless_told_otherwise(ctx, write):
    write("train", ["Good good GOOD", "Good"])
    write("validation", ["good"])
    write("test", ["gOOD"])
    tokens, _ = everything(load(ctx, length=3).train)
    assert tokens.unique().numel() == 4  # three spellings and padding
    assert sentences_of(load(ctx, length=3).test) == Counter([((1, 0, 0), 0)])
    data = load(ctx, length=3, lowercase=True)
    assert sentences_of(data.train) == Counter([((2, 2, 2), 0), ((2, 0, 0), 1)])
    assert sentences_of(data.test) == Counter([((2, 0, 0), 0)])


def test_words_of_carved_splits_are_not_in_the_vocabulary(ctx, write, check_distinct):
    write("train", [f"word{row} film" for row in range(40)])
    data = load(ctx, length=2, validation=8, test=0.25)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [22, 8, 10]
    tokens, _ = everything(data.train)
    assert (tokens[:, 1] == 2).all()
    assert sorted(tokens[:, 0].tolist()) == list(range(3, 25))
    for split in (data.validation, data.test):
        assert (everything(split)[0] == torch.tensor([1, 2])).all()


def test_shards_are_one_split(ctx, write):
    write("train-00000-of-00002", ["a", "b b"])
    write("train-00001-of-00002", ["b", "c c c c"])
    write("dev", ["not read"])
    write("valid", ["a"])
    write("test", ["b"])
    data = load(ctx, length=1)
    assert sentences_of(data.train) == Counter([((4,), 0), ((3,), 1), ((3,), 0), ((2,), 1)])
    assert len(data.validation) == 1


def test_columns_may_be_named(ctx, write):
    for name in ("train", "validation", "test"):
        write(name, ["a b"] * 2, text="headline", body=["c d"] * 2, label="stars", year=[1999] * 2)
    with pytest.raises(DataError, match="columns headline, body all hold text; name the sentences' with `text`"):
        load(ctx)
    with pytest.raises(DataError, match="columns stars, year all hold integers; name the classes' with `label`"):
        load(ctx, text="body")
    assert load(ctx, text="body", label="stars").classes == 2
    with pytest.raises(DataError, match=r"train\.parquet: no column 'bod'; did you mean 'body'\?"):
        load(ctx, text="bod", label="stars")
    with pytest.raises(DataError, match="column 'year' holds int64, not text"):
        load(ctx, text="year", label="stars")


def test_a_usual_name_is_taken_among_several_columns_of_text(ctx, write):
    for name in ("train", "validation", "test"):
        write(name, ["a b"] * 2, author=["me", "you"])
    assert everything(load(ctx, length=3).train)[0].tolist() == [[2, 3, 0]] * 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"], "label": [1]}, r"no column holds text\. Columns: image \(binary\), label \(int64\)"),
        ({"text": ["a"], "label": [0.5]}, r"no column holds integer classes\. Columns: text \(string\)"),
        ({"text": ["a", None, None], "label": [0, 1, 0]}, "2 rows have no sentence, the first of them row 1"),
        ({"text": ["a", "b"], "label": [0, None]}, "column 'label' lacks 1 classes"),
        ({"text": ["a", "b"], "label": [0, -1]}, "column 'label': class -1 at sample 1"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, "no rows"),
    ],
)
def test_columns_that_hold_something_else_are_told(ctx, columns, message):
    pq.write_table(pa.table(columns), ctx.folder / "train.parquet")
    with pytest.raises(DataError, match=rf"train\.parquet: {message}"):
        load(ctx)


def test_missing_and_damaged_files_are_told(ctx, write):
    write("tran", ["a"])
    with pytest.raises(DataError, match=r"no train\.parquet or train-\*\.parquet in this folder; there: tran\.parquet"):
        load(ctx)
    with pytest.raises(DataError, match=r"there is no 'sst' in "):
        load(ctx, path="sst/2")
    (ctx.folder / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as parquet"):
        load(ctx)


@pytest.mark.parametrize("options", [{"vocabulary": 2}, {"length": 0}, {"normalize": {"mean": [0.5], "std": [0.5]}}])
def test_impossible_options_are_refused_with_the_spec(options):
    with pytest.raises(ValidationError):
        Text.model_validate({"path": ".", **options})


@pytest.mark.slow
def test_sst_2(ctx, shared):
    data = load(ctx, path=str(shared / "data/sst2"), length=60)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [6920, 872, 1821]
    assert data.classes == 2
    tokens, targets = everything(data.train)
    assert tokens.max() == 7999
    # Every sentence is its row's, word for word: one token to a word, and one word to a token of the vocabulary.
    rows = pq.read_table(shared / "data/sst2/train.parquet").take(data.train.read.order.numpy()).to_pylist()
    word_of = {}
    for row, sentence, target in zip(rows, tokens.tolist(), targets.tolist(), strict=True):
        words = row["sentence"].split()
        assert target == row["label"]
        assert sentence[len(words) :] == [0] * (60 - len(words))
        for word, token in zip(words, sentence, strict=False):
            assert token == 1 or word_of.setdefault(token, word) == word
    assert sorted(word_of) == list(range(2, 8000))
    counts = Counter(word for row in rows for word in row["sentence"].split())
    assert min(counts[word] for word in word_of.values()) >= max(
        c for w, c in counts.items() if w not in word_of.values()
    )
    # What was not trained on has words of its own, and none of them beyond the vocabulary.
    unknown = [
        (everything(split)[0] == 1).sum() / (everything(split)[0] > 0).sum() for split in (data.train, data.test)
    ]
    assert unknown[0] < unknown[1] < 0.15
