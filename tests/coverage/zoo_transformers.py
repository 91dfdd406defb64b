"""Cases of transformers: small configurations, a classifier on the mean of the last hidden states."""

from __future__ import annotations

from .transformers_parts import (
    GPT,
    HEADED,
    IDS,
    IMAGE,
    PIXELS,
    PLAIN,
    SEQ2SEQ,
    T5,
    TEXT,
    TEXTS,
    TWO,
    VIT,
    WAVES,
    Entry,
    cases_of,
)
from .zoo import both, features, tokens
from .zoo_transformers_heard import CASES as HEARD
from .zoo_transformers_images import CASES as IMAGES
from .zoo_transformers_more import CASES as MORE
from .zoo_transformers_seen import CASES as SEEN

_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}

_TABLE: tuple[Entry, ...] = (
    ("bert", "Bert", IDS, TEXT, 32, PLAIN),
    ("roberta", "Roberta", IDS, TEXT, 32, PLAIN),
    ("electra", "Electra", IDS, TEXT, 32, {**PLAIN, "embedding_size": 24}),
    ("albert", "Albert", IDS, TEXT, 32, {**PLAIN, "embedding_size": 24}),
    (
        "distilbert",
        "DistilBert",
        IDS,
        TEXT,
        32,
        {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    ("deberta_v2", "DebertaV2", IDS, TEXT, 32, PLAIN),
    (
        "modernbert",
        "ModernBert",
        IDS,
        TEXT,
        32,
        {**PLAIN, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    (
        "gpt2",
        "GPT2",
        IDS,
        TEXT,
        32,
        GPT,
    ),
    ("gpt_neox", "GPTNeoX", IDS, TEXT, 32, PLAIN),
    ("opt", "OPT", IDS, TEXT, 32, {**PLAIN, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("bloom", "Bloom", IDS, TEXT, 32, {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    ("llama", "Llama", IDS, TEXT, 32, HEADED),
    ("mistral", "Mistral", IDS, TEXT, 32, HEADED),
    ("qwen2", "Qwen2", IDS, TEXT, 32, HEADED),
    ("qwen3", "Qwen3", IDS, TEXT, 32, HEADED),
    ("gemma", "Gemma", IDS, TEXT, 32, HEADED),
    ("phi", "Phi", IDS, TEXT, 32, PLAIN),
    ("t5", "T5", SEQ2SEQ, TEXTS, 32, T5),
    ("bart", "Bart", SEQ2SEQ, TEXTS, 32, {**TWO, "max_position_embeddings": 64}),
    (
        "whisper",
        "Whisper",
        ("input_features", "decoder_input_ids"),
        both(features(20, 32), tokens(99, 6)),
        32,
        {
            **TWO,
            "num_mel_bins": 20,
            "max_source_positions": 16,
            "max_target_positions": 16,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    ("wav2vec2", "Wav2Vec2", ("input_values",), features(400), 32, WAVES),
    ("vit", "ViT", PIXELS, IMAGE, 32, VIT),
    ("deit", "DeiT", PIXELS, IMAGE, 32, VIT),
    ("beit", "Beit", PIXELS, IMAGE, 32, {**VIT, "use_relative_position_bias": True}),
    ("dinov2", "Dinov2", PIXELS, IMAGE, 32, VIT),
    ("swin", "Swin", PIXELS, IMAGE, 32, _SWIN),
    ("swinv2", "Swinv2", PIXELS, IMAGE, 32, _SWIN),
    ("convnext", "ConvNext", PIXELS, IMAGE, 48, {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}),
    (
        "segformer",
        "Segformer",
        PIXELS,
        IMAGE,
        64,
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]},
    ),
    (
        "resnet",
        "ResNet",
        PIXELS,
        IMAGE,
        48,
        {"embedding_size": 16, "hidden_sizes": [16, 48], "depths": [2, 2]},
    ),
)

CASES = [*cases_of(_TABLE), *MORE, *IMAGES, *SEEN, *HEARD]
