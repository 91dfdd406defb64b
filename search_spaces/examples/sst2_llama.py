"""A small language model in Hugging Face's form, of Llama's architecture: a tokenizer, a model, and their training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/sst2_llama.py

writes both to made/sst2_llama beside this file, as ``save_pretrained`` does, in about a minute. The folder holds
data/sst2/{train,validation,test}.parquet; a relative one starts at this file's folder. Nothing is downloaded: the
tokenizer is learnt from the sentences, and the model starts from random weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from making import DATA, made, train
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from autoprune.toolkit.packages import optional

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

transformers = optional("transformers")  # also beside a torchvision that does not fit torch, which it imports

END = "<end>"
LENGTH = 32
"""Tokens of a block."""
EPOCHS = 2


def learnt_tokenizer(sentences: list[str]) -> PreTrainedTokenizerFast:
    """Pieces of words that are frequent in the sentences."""
    learnt = Tokenizer(BPE())
    learnt.pre_tokenizer, learnt.decoder = ByteLevel(add_prefix_space=True), ByteLevelDecoder()
    learnt.train_from_iterator(
        sentences,
        BpeTrainer(vocab_size=800, special_tokens=[END], initial_alphabet=ByteLevel.alphabet(), show_progress=False),
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=learnt, bos_token=END, eos_token=END, pad_token=END)


def blocks(tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> Tensor:
    """All sentences in one row, each ended, cut into blocks: (N, LENGTH)."""
    tokens = torch.tensor(
        [token for line in tokenizer(sentences)["input_ids"] for token in (*line, tokenizer.eos_token_id)]
    )
    return tokens[: len(tokens) - len(tokens) % LENGTH].view(-1, LENGTH)


def main() -> None:
    """Learn the tokenizer, train the model, and save both."""
    torch.manual_seed(0)
    sentences = {
        split: pd.read_parquet(DATA / f"sst2/{split}.parquet")["sentence"].tolist() for split in ("train", "test")
    }
    tokenizer = learnt_tokenizer(sentences["train"])
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=96,
            max_position_embeddings=64,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
            tie_word_embeddings=True,
        )
    )
    tokens = blocks(tokenizer, sentences["train"])
    train(
        model,
        len(tokens),
        lambda i: model(input_ids=tokens[i], labels=tokens[i]).loss,
        epochs=EPOCHS,
        batch_size=16,
        lr=1e-2,
    )
    folder = made("sst2_llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokens = blocks(tokenizer, sentences["test"])
    with torch.inference_mode():
        print(f"perplexity of the test sentences: {model(input_ids=tokens, labels=tokens).loss.exp():.1f}")
    begun = tokenizer("the film is", return_tensors="pt")
    said = model.generate(**begun, max_new_tokens=20, do_sample=False)
    print(tokenizer.decode(said[0]))


if __name__ == "__main__":
    main()
