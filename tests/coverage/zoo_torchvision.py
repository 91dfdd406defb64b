"""Cases of torchvision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torchvision.models
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

from .zoo import Case, Inputs, both, features


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


def _mvit() -> nn.Module:
    def block(inputs: int, outputs: int, heads: int, stride: int) -> MSBlockConfig:
        return MSBlockConfig(
            num_heads=heads,
            input_channels=inputs,
            output_channels=outputs,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[1, stride, stride],
            stride_kv=[1, 2, 2],
        )

    return MViT(
        (32, 32),
        4,
        [block(16, 16, 1, 1), block(16, 32, 2, 2), block(32, 32, 2, 1)],
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=10,
    )


def _without_weights(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=10)


class _Heads(nn.Module):
    """What a detector computes before it picks boxes: backbone, pyramid and head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        detector = _without_weights(name)
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.head(list(self.backbone(images).values()))


class _Flow(nn.Module):
    """Optical flow after two updates."""

    def __init__(self) -> None:
        super().__init__()
        self.raft = torchvision.models.optical_flow.raft_small(weights=None)

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        return self.raft(first, second, num_flow_updates=2)


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

_VIDEO = features(3, 4, 32, 32)
# Family, name, how it is made, inputs.
_OTHERS: tuple[tuple[str, str, Callable[[], nn.Module], Inputs], ...] = (
    ("vit", "vit_tiny", _vit, features(3, 32, 32)),
    ("swin", "swin_tiny", functools.partial(_swin, 1), features(3, 32, 32)),
    ("swinv2", "swin_v2_tiny", functools.partial(_swin, 2), features(3, 32, 32)),
    ("maxvit", "maxvit_tiny", _maxvit, features(3, 64, 64)),
    *(
        ("segmentation", name, functools.partial(_without_weights, name), features(3, 64, 64))
        for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
    ),
    *(("video", name, functools.partial(_make, name, {}), _VIDEO) for name in ("r3d_18", "mc3_18", "r2plus1d_18")),
    ("mvit", "mvit_tiny", _mvit, _VIDEO),
    *(
        ("detection", name, functools.partial(_Heads, name), features(3, 64, 64))
        for name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large")
    ),
    ("optical flow", "raft_small", _Flow, both(features(3, 128, 128), features(3, 128, 128))),
)

CASES = [
    *(
        Case("torchvision", family, name, functools.partial(_make, name, options), features(3, size, size))
        for family, name, size, options in _TABLE
    ),
    *(Case("torchvision", family, name, make, inputs) for family, name, make, inputs in _OTHERS),
]
