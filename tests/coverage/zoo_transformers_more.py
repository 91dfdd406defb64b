"""More cases of transformers: state spaces, mixtures of experts, language models of other shapes, encoders of text."""

from __future__ import annotations

import torch
from torch import Tensor

from .transformers_parts import ENDS, GPT, GROUPED, HEADED, IDS, PLAIN, SEQ2SEQ, T5, TEXT, TEXTS, TWO, Entry, cases_of
from .zoo import Inputs, both, tokens


def _mask(steps: int) -> Inputs:
    """All ones of shape (N, steps)."""
    return lambda samples, generator: (torch.ones(samples, steps, dtype=torch.int64),)


def _codes(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Four codes at each of five steps."""
    return (torch.randint(30, (samples, 4, 5), generator=generator),)


_STATE = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, **ENDS}
_POSITIONED = {**TWO, **ENDS, "decoder_start_token_id": 1, "max_position_embeddings": 64}
_MASKED = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
_MASKED_TEXTS = both(TEXT, _mask(9), tokens(99, 6), _mask(6))
_EXPERTS = {
    **HEADED,
    "num_experts_per_tok": 2,
    "num_experts": 4,
    "experts_implementation": "batched_mm",  # its grouped_mm takes widths of whole 16 bytes alone
}
_LOCAL = {"num_local_experts" if name == "num_experts" else name: value for name, value in _EXPERTS.items()}

_TABLE: tuple[Entry, ...] = (
    # State spaces and other recurrences.
    ("mamba", "Mamba", IDS, TEXT, 32, {**_STATE, "state_size": 4}),
    (
        "mamba2",
        "Mamba2",
        IDS,
        TEXT,
        32,
        {**_STATE, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4},
    ),
    ("falcon_mamba", "FalconMamba", IDS, TEXT, 32, {**_STATE, "state_size": 4}),
    (
        "recurrent_gemma",
        "RecurrentGemma",
        IDS,
        TEXT,
        32,
        {**HEADED, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    ),
    (
        "rwkv",
        "Rwkv",
        IDS,
        TEXT,
        32,
        {**_STATE, "attention_hidden_size": 32, "intermediate_size": 48, "context_length": 64, "use_cache": False},
    ),
    ("lfm2", "Lfm2", IDS, TEXT, 32, {**HEADED, "layer_types": ["conv", "full_attention"]}),
    (
        "bamba",
        "Bamba",
        IDS,
        TEXT,
        32,
        {
            **GROUPED,
            "attn_layer_indices": [1],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_chunk_size": 4,
        },
    ),
    # Mixtures of experts.
    ("mixtral", "Mixtral", IDS, TEXT, 32, _LOCAL),
    (
        "qwen2_moe",
        "Qwen2Moe",
        IDS,
        TEXT,
        32,
        {**_EXPERTS, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    ),
    ("olmoe", "Olmoe", IDS, TEXT, 32, _EXPERTS),
    ("gpt_oss", "GptOss", IDS, TEXT, 32, _LOCAL),
    ("granitemoe", "GraniteMoe", IDS, TEXT, 32, _LOCAL),
    ("llama4", "Llama4Text", IDS, TEXT, 32, {**_LOCAL, "intermediate_size_mlp": 48}),
    # Other language models.
    ("gemma2", "Gemma2", IDS, TEXT, 32, HEADED),
    ("gemma3", "Gemma3Text", IDS, TEXT, 32, HEADED),
    ("phi3", "Phi3", IDS, TEXT, 32, GROUPED),
    (
        "falcon",
        "Falcon",
        IDS,
        TEXT,
        32,
        {**PLAIN, **ENDS, "num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 48},
    ),
    ("mpt", "Mpt", IDS, TEXT, 32, {"vocab_size": 99, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    ("gptj", "GPTJ", IDS, TEXT, 32, {**GPT, "rotary_dim": 4}),
    ("codegen", "CodeGen", IDS, TEXT, 32, {**GPT, "rotary_dim": 4}),
    ("gpt_bigcode", "GPTBigCode", IDS, TEXT, 32, {**GPT, **ENDS}),
    (
        "gpt_neo",
        "GPTNeo",
        IDS,
        TEXT,
        32,
        {
            "vocab_size": 99,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "intermediate_size": 48,
            "max_position_embeddings": 64,
        },
    ),
    (
        "xglm",
        "XGLM",
        IDS,
        TEXT,
        32,
        {
            **ENDS,
            "vocab_size": 99,
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 64,
        },
    ),
    ("cohere", "Cohere", IDS, TEXT, 32, HEADED),
    ("olmo2", "Olmo2", IDS, TEXT, 32, HEADED),
    ("granite", "Granite", IDS, TEXT, 32, HEADED),
    ("stablelm", "StableLm", IDS, TEXT, 32, GROUPED),
    ("starcoder2", "Starcoder2", IDS, TEXT, 32, GROUPED),
    ("diffllama", "DiffLlama", IDS, TEXT, 32, HEADED),
    ("olmo", "Olmo", IDS, TEXT, 32, GROUPED),
    ("nemotron", "Nemotron", IDS, TEXT, 32, HEADED),
    (
        "musicgen",
        "MusicgenForCausalLM",
        IDS,
        _codes,
        ("logits",),
        {
            "vocab_size": 30,
            "num_codebooks": 4,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 64,
        },
    ),
    # Encoders.
    ("fnet", "FNet", IDS, TEXT, 32, {name: PLAIN[name] for name in PLAIN if name != "num_attention_heads"}),
    ("convbert", "ConvBert", IDS, TEXT, 32, {**PLAIN, "embedding_size": 24, "head_ratio": 2}),
    (
        "squeezebert",
        "SqueezeBert",
        IDS,
        TEXT,
        32,
        {**PLAIN, "embedding_size": 32, **{f"{x}_groups": 2 for x in ("q", "k", "v", "intermediate", "output")}},
    ),
    (
        "mobilebert",
        "MobileBert",
        IDS,
        TEXT,
        32,
        {**PLAIN, "embedding_size": 24, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    ),
    ("mpnet", "MPNet", IDS, TEXT, 32, PLAIN),
    ("roformer", "RoFormer", IDS, TEXT, 32, {**PLAIN, "embedding_size": 24}),
    (
        "xlnet",
        "XLNet",
        IDS,
        TEXT,
        32,
        {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    ),
    ("big_bird", "BigBird", IDS, TEXT, 32, {**PLAIN, "attention_type": "original_full"}),
    ("longformer", "Longformer", IDS, tokens(99, 8), 32, {**PLAIN, "attention_window": 4}),
    (
        "canine",
        "Canine",
        IDS,
        tokens(99, 16),
        32,
        {**PLAIN, "downsampling_rate": 2, "local_transformer_stride": 4, "num_hash_buckets": 64},
    ),
    ("luke", "Luke", IDS, TEXT, 32, {**PLAIN, "entity_vocab_size": 20, "entity_emb_size": 16}),
    ("layoutlm", "LayoutLM", IDS, TEXT, 32, PLAIN),
    (
        "esm",
        "Esm",
        IDS,
        TEXT,
        32,
        {**PLAIN, "position_embedding_type": "rotary", "pad_token_id": 1, "mask_token_id": 4},
    ),
    # From text to text.
    ("pegasus", "Pegasus", SEQ2SEQ, TEXTS, 32, _POSITIONED),
    ("marian", "Marian", SEQ2SEQ, TEXTS, 32, _POSITIONED),
    ("blenderbot", "Blenderbot", SEQ2SEQ, TEXTS, 32, _POSITIONED),
    ("m2m_100", "M2M100", SEQ2SEQ, TEXTS, 32, _POSITIONED),
    ("mt5", "MT5", SEQ2SEQ, TEXTS, 32, T5),
    ("longt5", "LongT5", _MASKED, _MASKED_TEXTS, 32, {**T5, "local_radius": 3}),
)

CASES = cases_of(_TABLE)
