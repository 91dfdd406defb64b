"""Cases of transformers: small configurations, a classifier on the mean of the last hidden states."""

from __future__ import annotations

import functools
from typing import Any

import transformers
from torch import Tensor, nn

from .zoo import Case, Inputs, both, features, tokens


class Pooled(nn.Module):
    """Takes tensors by position and gives one tensor, as a classifier would."""

    def __init__(self, model: nn.Module, width: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.head, self.names = model, nn.Linear(width, 5), names

    def forward(self, *inputs: Tensor) -> Tensor:
        states = self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state
        return self.head(states.mean((2, 3)) if states.ndim == 4 else states.mean(1))


def _make(config: str, names: tuple[str, ...], width: int, options: dict[str, Any]) -> nn.Module:
    made = getattr(transformers, f"{config}Config")(**options)
    return Pooled(transformers.AutoModel.from_config(made), width, names)


_TEXT, _IMAGE = tokens(99, 9), features(3, 32, 32)
_PLAIN = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VIT = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
_TWO = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 99, "pad_token_id": 0}
_TWO |= {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
_TWO |= {f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")}
_T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_SEQ2SEQ = ("input_ids", "decoder_input_ids")
_HUBERT = {"conv_dim": (16, 16), "conv_stride": (4, 4), "conv_kernel": (8, 8), "num_feat_extract_layers": 2}
_HUBERT |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}

# Family, configuration, what the model calls its inputs, width of its last hidden states, options.
_TABLE: tuple[tuple[str, str, tuple[str, ...], Inputs, int, dict[str, Any]], ...] = (
    ("bert", "Bert", ("input_ids",), _TEXT, 32, _PLAIN),
    ("roberta", "Roberta", ("input_ids",), _TEXT, 32, _PLAIN),
    ("electra", "Electra", ("input_ids",), _TEXT, 32, {**_PLAIN, "embedding_size": 24}),
    ("albert", "Albert", ("input_ids",), _TEXT, 32, {**_PLAIN, "embedding_size": 24}),
    (
        "distilbert",
        "DistilBert",
        ("input_ids",),
        _TEXT,
        32,
        {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    ("deberta_v2", "DebertaV2", ("input_ids",), _TEXT, 32, _PLAIN),
    (
        "modernbert",
        "ModernBert",
        ("input_ids",),
        _TEXT,
        32,
        {**_PLAIN, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    (
        "gpt2",
        "GPT2",
        ("input_ids",),
        _TEXT,
        32,
        {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    ("gpt_neox", "GPTNeoX", ("input_ids",), _TEXT, 32, _PLAIN),
    ("opt", "OPT", ("input_ids",), _TEXT, 32, {**_PLAIN, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("bloom", "Bloom", ("input_ids",), _TEXT, 32, {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    ("llama", "Llama", ("input_ids",), _TEXT, 32, _GROUPED),
    ("mistral", "Mistral", ("input_ids",), _TEXT, 32, _GROUPED),
    ("qwen2", "Qwen2", ("input_ids",), _TEXT, 32, _GROUPED),
    ("qwen3", "Qwen3", ("input_ids",), _TEXT, 32, _GROUPED),
    ("gemma", "Gemma", ("input_ids",), _TEXT, 32, _GROUPED),
    ("phi", "Phi", ("input_ids",), _TEXT, 32, _PLAIN),
    ("t5", "T5", _SEQ2SEQ, both(_TEXT, tokens(99, 6)), 32, _T5),
    ("bart", "Bart", _SEQ2SEQ, both(_TEXT, tokens(99, 6)), 32, {**_TWO, "max_position_embeddings": 64}),
    (
        "whisper",
        "Whisper",
        ("input_features", "decoder_input_ids"),
        both(features(20, 32), tokens(99, 6)),
        32,
        {
            **_TWO,
            "num_mel_bins": 20,
            "max_source_positions": 16,
            "max_target_positions": 16,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    ("wav2vec2", "Wav2Vec2", ("input_values",), features(400), 32, {**_PLAIN, **_HUBERT}),
    ("vit", "ViT", ("pixel_values",), _IMAGE, 32, _VIT),
    ("deit", "DeiT", ("pixel_values",), _IMAGE, 32, _VIT),
    ("beit", "Beit", ("pixel_values",), _IMAGE, 32, {**_VIT, "use_relative_position_bias": True}),
    ("dinov2", "Dinov2", ("pixel_values",), _IMAGE, 32, _VIT),
    ("swin", "Swin", ("pixel_values",), _IMAGE, 32, _SWIN),
    ("swinv2", "Swinv2", ("pixel_values",), _IMAGE, 32, _SWIN),
    ("convnext", "ConvNext", ("pixel_values",), _IMAGE, 48, {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}),
    (
        "segformer",
        "Segformer",
        ("pixel_values",),
        _IMAGE,
        64,
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]},
    ),
    (
        "resnet",
        "ResNet",
        ("pixel_values",),
        _IMAGE,
        48,
        {"embedding_size": 16, "hidden_sizes": [16, 48], "depths": [2, 2]},
    ),
)

CASES = [
    Case("transformers", family, family, functools.partial(_make, config, names, width, options), inputs)
    for family, config, names, inputs, width, options in _TABLE
]
