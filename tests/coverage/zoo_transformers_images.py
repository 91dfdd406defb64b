"""More cases of transformers: classifiers and backbones of images and videos."""

from __future__ import annotations

from .transformers_parts import IMAGE, LARGER, PIXELS, VIT, Entry, cases_of
from .zoo import features

_LOGITS, _VIDEO = ("logits",), features(4, 3, 32, 32)
_STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48]}

_TABLE: tuple[Entry, ...] = (
    ("convnextv2", "ConvNextV2", PIXELS, IMAGE, 48, _STAGES),
    ("poolformer", "PoolFormer", PIXELS, LARGER, 48, _STAGES),
    (
        "mobilevit",
        "MobileViT",
        PIXELS,
        LARGER,
        64,
        {
            "image_size": 64,
            "hidden_sizes": [24, 32, 40],
            "neck_hidden_sizes": [8, 12, 16, 24, 32, 40, 64],
            "num_attention_heads": 4,
        },
    ),
    (
        "mobilevitv2",
        "MobileViTV2ForImageClassification",
        PIXELS,
        LARGER,
        _LOGITS,
        {
            "image_size": 64,
            "width_multiplier": 0.5,
            "base_attn_unit_dims": [16, 24, 32],
            "n_attn_blocks": [1, 1, 1],
        },
    ),
    (
        "levit",
        "LevitForImageClassification",
        PIXELS,
        LARGER,
        _LOGITS,
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
        },
    ),
    (
        "bit",
        "BitForImageClassification",
        PIXELS,
        IMAGE,
        _LOGITS,
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4},
    ),
    (
        "regnet",
        "RegNetForImageClassification",
        PIXELS,
        IMAGE,
        _LOGITS,
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "groups_width": 8},
    ),
    ("dinov2_registers", "Dinov2WithRegisters", PIXELS, IMAGE, 32, {**VIT, "num_register_tokens": 2}),
    ("dinov3", "DINOv3ViT", PIXELS, IMAGE, 32, {**VIT, "num_register_tokens": 2}),
    (
        "vitdet",
        "VitDet",
        PIXELS,
        IMAGE,
        32,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "pretrain_image_size": 32,
            "patch_size": 4,
            "window_block_indices": [0],
            "window_size": 4,
            "mlp_ratio": 2,
            "use_relative_position_embeddings": True,
        },
    ),
    (
        "swin2sr",
        "Swin2SRForImageSuperResolution",
        PIXELS,
        IMAGE,
        ("reconstruction",),
        {
            "image_size": 32,
            "patch_size": 1,
            "embed_dim": 16,
            "depths": [2],
            "num_heads": [2],
            "window_size": 4,
            "upscale": 2,
        },
    ),
    ("videomae", "VideoMAE", PIXELS, _VIDEO, 32, {**VIT, "num_frames": 4}),
    ("vivit", "Vivit", PIXELS, _VIDEO, 32, {**VIT, "num_frames": 4, "tubelet_size": [2, 8, 8]}),
    ("timesformer", "Timesformer", PIXELS, _VIDEO, 32, {**VIT, "num_frames": 4}),
)

CASES = cases_of(_TABLE)
