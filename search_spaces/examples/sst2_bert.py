"""A BERT-like classifier of sentences in Hugging Face's form: a tokenizer, a small model, and their training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/sst2_bert.py

writes both to made/sst2_bert beside this file, as ``save_pretrained`` does, in about a minute. The folder holds
data/sst2/{train,validation,test}.parquet; a relative one starts at this file's folder. Nothing is downloaded: the
tokenizer is learnt from the sentences, and the model starts from random weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from making import DATA, made, train
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from autoprune.toolkit.packages import optional

if TYPE_CHECKING:
    from transformers import BatchEncoding, BertTokenizerFast

transformers = optional("transformers")  # also beside a torchvision that does not fit torch, which it imports

LENGTH = 32
EPOCHS = 3


def learnt_tokenizer(sentences: list[str]) -> BertTokenizerFast:
    """Pieces of words that are frequent in the sentences."""
    learnt = BertWordPieceTokenizer()
    learnt.train_from_iterator(sentences, vocab_size=3000, show_progress=False)
    return transformers.BertTokenizerFast(vocab=learnt.get_vocab(), model_max_length=LENGTH)


def encoded(tokenizer: BertTokenizerFast, table: pd.DataFrame) -> tuple[BatchEncoding, Tensor]:
    """Sentences as the model takes them, and their classes, (N,)."""
    tokens = tokenizer(
        table["sentence"].tolist(), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    return tokens, torch.tensor(table["label"].tolist())


def main() -> None:
    """Learn the tokenizer, train the model, and save both."""
    torch.manual_seed(0)
    tables = {split: pd.read_parquet(DATA / f"sst2/{split}.parquet") for split in ("train", "test")}
    tokenizer = learnt_tokenizer(tables["train"]["sentence"].tolist())
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.2,
            num_labels=2,
        )
    )
    tokens, classes = encoded(tokenizer, tables["train"])

    def loss(index: Tensor) -> Tensor:
        longest = int(tokens["attention_mask"][index].sum(1).max())
        batch = {name: tensor[index, :longest] for name, tensor in tokens.items()}
        return model(**batch, labels=classes[index]).loss

    train(model, len(classes), loss, epochs=EPOCHS, lr=4e-3, weight_decay=0.1)
    folder = made("sst2_bert")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokens, classes = encoded(tokenizer, tables["test"])
    with torch.inference_mode():
        found = model(**tokens).logits.argmax(1)
    print(f"of the test sentences, right: {(found == classes).float().mean():.3f}")


if __name__ == "__main__":
    main()
