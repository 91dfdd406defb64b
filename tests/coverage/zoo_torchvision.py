"""Cases of torchvision."""

from __future__ import annotations

import functools
from typing import Any

import torchvision.models
from torch import nn

from .zoo import Case, features


def _make(name: str, options: dict[str, Any]) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=10, **options)


def _maxvit() -> nn.Module:
    return torchvision.models.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.0, num_classes=10)


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 48, 96, num_classes=10)


def _swin(version: int) -> nn.Module:
    block = (
        torchvision.models.swin_transformer.SwinTransformerBlockV2
        if version == 2
        else torchvision.models.swin_transformer.SwinTransformerBlock
    )
    merging = (
        torchvision.models.swin_transformer.PatchMergingV2
        if version == 2
        else torchvision.models.swin_transformer.PatchMerging
    )
    return torchvision.models.SwinTransformer(
        [4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10, block=block, downsample_layer=merging
    )


# Family, model, size of its square images, options.
_TABLE: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("alexnet", "alexnet", 64, {}),
    ("vgg", "vgg11_bn", 32, {}),
    ("resnet", "resnet18", 64, {}),
    ("resnet", "resnet50", 64, {}),
    ("resnext", "resnext50_32x4d", 64, {}),
    ("wide_resnet", "wide_resnet50_2", 64, {}),
    ("densenet", "densenet121", 64, {}),
    ("googlenet", "googlenet", 64, {"aux_logits": False, "init_weights": False}),
    ("inception", "inception_v3", 96, {"aux_logits": False, "init_weights": False}),
    ("squeezenet", "squeezenet1_1", 64, {}),
    ("mobilenetv2", "mobilenet_v2", 64, {}),
    ("mobilenetv3", "mobilenet_v3_small", 64, {}),
    ("mnasnet", "mnasnet0_5", 64, {}),
    ("shufflenet", "shufflenet_v2_x0_5", 64, {}),
    ("efficientnet", "efficientnet_b0", 64, {}),
    ("efficientnetv2", "efficientnet_v2_s", 64, {}),
    ("regnet", "regnet_y_400mf", 64, {}),
    ("convnext", "convnext_tiny", 64, {}),
)

CASES = [
    *(
        Case("torchvision", family, name, functools.partial(_make, name, options), features(3, size, size))
        for family, name, size, options in _TABLE
    ),
    Case("torchvision", "vit", "vit_tiny", _vit, features(3, 32, 32)),
    Case("torchvision", "swin", "swin_tiny", functools.partial(_swin, 1), features(3, 32, 32)),
    Case("torchvision", "swinv2", "swin_v2_tiny", functools.partial(_swin, 2), features(3, 32, 32)),
    Case("torchvision", "maxvit", "maxvit_tiny", _maxvit, features(3, 64, 64)),
]
