"""What the cases of transformers share: how a model is made and called, and sizes that many configurations know."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import transformers
from torch import Tensor, nn

from .zoo import Case, Inputs, both, features, tokens

Entry = tuple[str, str, tuple[str, ...], Inputs, int | tuple[str, ...], dict[str, Any]]
"""Family; configuration (``Bert``) or model (``DetrForObjectDetection``); what the model calls its inputs; inputs;
width of its last hidden states, or the outputs that are taken; options of the configuration."""


class Pooled(nn.Module):
    """Takes tensors by position and gives one tensor, as a classifier would."""

    def __init__(self, model: nn.Module, width: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.head, self.names = model, nn.Linear(width, 5), names

    def forward(self, *inputs: Tensor) -> Tensor:
        states = self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state
        return self.head(states.mean((2, 3)) if states.ndim == 4 else states.mean(1))


class Named(nn.Module):
    """Takes tensors by position and gives the outputs of some names."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...], names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.outputs, self.names = model, outputs, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(found[name] for name in self.outputs)


def _make(name: str, names: tuple[str, ...], outputs: int | tuple[str, ...], options: dict[str, Any]) -> nn.Module:
    if hasattr(transformers, f"{name}Config"):
        model = transformers.AutoModel.from_config(getattr(transformers, f"{name}Config")(**options))
    else:
        of = getattr(transformers, name)
        model = of(of.config_class(**options))
    return Pooled(model, outputs, names) if isinstance(outputs, int) else Named(model, outputs, names)


def cases_of(table: Iterable[Entry]) -> list[Case]:
    """The cases of a table."""
    return [
        Case("transformers", family, family, functools.partial(_make, name, names, outputs, options), inputs)
        for family, name, names, inputs, outputs, options in table
    ]


IDS, PIXELS, SEQ2SEQ = ("input_ids",), ("pixel_values",), ("input_ids", "decoder_input_ids")
TEXT, TEXTS, IMAGE, LARGER = tokens(99, 9), both(tokens(99, 9), tokens(99, 6)), features(3, 32, 32), features(3, 64, 64)
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = {**PLAIN, **ENDS, "num_key_value_heads": 2}
HEADED = {**GROUPED, "head_dim": 8}
GPT = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
VIT: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
TWO = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 99, "pad_token_id": 0}
TWO |= {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
TWO |= {f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")}
T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
WAVES: dict[str, Any] = {
    **PLAIN,
    "conv_dim": (16, 16),
    "conv_stride": (4, 4),
    "conv_kernel": (8, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    # What is left out in train() is drawn by numpy, for every pass anew.
    "apply_spec_augment": False,
    "layerdrop": 0.0,
}
