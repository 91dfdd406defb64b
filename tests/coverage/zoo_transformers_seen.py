"""More cases of transformers that see: pairs with text, detectors, segments, depth, poses."""

from __future__ import annotations

from typing import Any

from .transformers_parts import ENDS, IMAGE, LARGER, PIXELS, PLAIN, TEXT, TWO, VIT, Entry, cases_of
from .zoo import both, features

_PAIR, _PAIRED = ("input_ids", "pixel_values"), both(TEXT, IMAGE)
_EMBEDDINGS = ("text_embeds", "image_embeds")
_ENDED = {**PLAIN, **ENDS}
_BOXES, _LOGITS, _DEPTH = ("logits", "pred_boxes"), ("logits",), ("predicted_depth",)
_STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48]}
_PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 32, 64], "num_attention_heads": [1, 2, 2, 4]}
_ALL = ["stage1", "stage2", "stage3", "stage4"]
_RESNET = {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic", **_STAGES}
_SWIN = {
    "model_type": "swin",
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 2, 2],
    "window_size": 4,
    "out_features": _ALL,
}
_DETR: dict[str, Any] = {
    **{name: TWO[name] for name in TWO if name not in ("vocab_size", "pad_token_id")},
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_queries": 5,
    "num_labels": 4,
    "backbone_config": {**_RESNET, "out_features": ["stage4"]},
}

_TABLE: tuple[Entry, ...] = (
    # Pairs with text.
    (
        "clip",
        "CLIPModel",
        _PAIR,
        _PAIRED,
        _EMBEDDINGS,
        {"text_config": _ENDED, "vision_config": VIT, "projection_dim": 24},
    ),
    (
        "siglip",
        "SiglipModel",
        _PAIR,
        _PAIRED,
        _EMBEDDINGS,
        {"text_config": {**_ENDED, "projection_size": 32}, "vision_config": VIT},
    ),
    (
        "blip",
        "BlipModel",
        _PAIR,
        _PAIRED,
        _EMBEDDINGS,
        {
            "text_config": {**_ENDED, "encoder_hidden_size": 32, "hidden_act": "gelu"},
            "vision_config": VIT,
            "projection_dim": 24,
            "image_text_hidden_size": 24,
        },
    ),
    (
        "chinese_clip",
        "ChineseCLIPModel",
        _PAIR,
        _PAIRED,
        _EMBEDDINGS,
        {"text_config": PLAIN, "vision_config": VIT, "projection_dim": 24},
    ),
    (
        "owlvit",
        "OwlViTModel",
        _PAIR,
        _PAIRED,
        _EMBEDDINGS,
        {"text_config": _ENDED, "vision_config": VIT, "projection_dim": 24},
    ),
    (
        "flava",
        "FlavaModel",
        _PAIR,
        _PAIRED,
        ("text_embeddings", "image_embeddings", "multimodal_embeddings"),
        {
            "text_config": PLAIN,
            "image_config": VIT,
            "multimodal_config": {name: PLAIN[name] for name in PLAIN if name in VIT},
            "hidden_size": 32,
            "projection_dim": 24,
        },
    ),
    (
        "lxmert",
        "LxmertModel",
        ("input_ids", "visual_feats", "visual_pos"),
        both(TEXT, features(5, 20), features(5, 4)),
        ("language_output", "vision_output", "pooled_output"),
        {**PLAIN, "l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 20},
    ),
    # Detectors.
    ("detr", "DetrForObjectDetection", PIXELS, LARGER, _BOXES, _DETR),
    (
        "deformable_detr",
        "DeformableDetrForObjectDetection",
        PIXELS,
        LARGER,
        _BOXES,
        {
            **_DETR,
            "backbone_config": {**_RESNET, "out_features": ["stage3", "stage4"]},
            "num_feature_levels": 2,
            "decoder_layers": 2,
        },
    ),
    (
        "yolos",
        "YolosForObjectDetection",
        PIXELS,
        IMAGE,
        _BOXES,
        {**VIT, "image_size": [32, 32], "num_detection_tokens": 5, "num_labels": 4},
    ),
    # Segments, depth, poses.
    (
        "maskformer",
        "MaskFormerForInstanceSegmentation",
        PIXELS,
        LARGER,
        ("class_queries_logits", "masks_queries_logits"),
        {
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
            "backbone_config": _SWIN,
            "decoder_config": {"model_type": "detr", **{name: _DETR[name] for name in _DETR if name != "num_labels"}},
        },
    ),
    (
        "upernet",
        "UperNetForSemanticSegmentation",
        PIXELS,
        LARGER,
        _LOGITS,
        {
            "backbone_config": {"model_type": "convnext", "out_features": _ALL, **_STAGES},
            "hidden_size": 32,
            "num_labels": 4,
            "auxiliary_in_channels": 32,
            "auxiliary_channels": 16,
        },
    ),
    (
        "segformer_head",
        "SegformerForSemanticSegmentation",
        PIXELS,
        LARGER,
        _LOGITS,
        {**_PYRAMID, "decoder_hidden_size": 24, "num_labels": 4, "drop_path_rate": 0.0},
    ),
    (
        "dpt",
        "DPTForDepthEstimation",
        PIXELS,
        IMAGE,
        _DEPTH,
        {
            **VIT,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 16, 24, 32],
            "fusion_hidden_size": 16,
        },
    ),
    (
        "depth_anything",
        "DepthAnythingForDepthEstimation",
        PIXELS,
        IMAGE,
        _DEPTH,
        {
            "backbone_config": {
                **VIT,
                "model_type": "dinov2",
                "num_hidden_layers": 4,
                "out_features": _ALL,
                "reshape_hidden_states": False,
            },
            "patch_size": 8,
            "neck_hidden_sizes": [8, 16, 24, 32],
            "fusion_hidden_size": 16,
            "head_hidden_size": 8,
            "reassemble_hidden_size": 32,
        },
    ),
    (
        "vitpose",
        "VitPoseForPoseEstimation",
        PIXELS,
        IMAGE,
        ("heatmaps",),
        {
            "backbone_config": {
                **VIT,
                "model_type": "vitpose_backbone",
                "image_size": [32, 32],
                "patch_size": [8, 8],
                "out_indices": [2],
            },
            "num_labels": 4,
            "use_simple_decoder": False,
        },
    ),
    (
        "sam_vision",
        "SamVisionModel",
        PIXELS,
        IMAGE,
        24,
        {
            "hidden_size": 32,
            "output_channels": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 4,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 48,
        },
    ),
)

CASES = cases_of(_TABLE)
