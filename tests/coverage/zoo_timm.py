"""Cases of timm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import timm
from timm.models import convmixer, focalnet, gcvit, metaformer, mlp_mixer, mvitv2, nest, volo
from torch import nn

from .zoo import Case, features


def _make(name: str, options: dict[str, Any]) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=10, **options)


def _mixer(**options: Any) -> nn.Module:
    return mlp_mixer.MlpMixer(img_size=64, patch_size=16, num_blocks=2, embed_dim=96, **options)


def _mvit(num_classes: int) -> nn.Module:
    cfg = mvitv2.MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=48)
    return mvitv2.MultiScaleVit(cfg, img_size=(64, 64), num_classes=num_classes)


_METAFORMER = {"depths": (1, 1, 1, 1), "dims": (32, 48, 64, 96)}
_POOL = {
    "downsample_norm": None,
    "mlp_act": nn.GELU,
    "mlp_bias": True,
    "norm_layers": metaformer.GroupNorm1,
    "layer_scale_init_values": 1e-5,
    "res_scale_init_values": None,
    "use_mlp_head": False,
}
_POOL_V2 = {"norm_layers": metaformer.GroupNorm1NoBias, "use_mlp_head": False}
_CAFORMER = {
    "token_mixers": [metaformer.SepConv] * 2 + [metaformer.Attention] * 2,
    "norm_layers": [metaformer.LayerNorm2dNoBias] * 2 + [metaformer.LayerNormNoBias] * 2,
}
_VOLO = {"layers": (1, 1, 1, 1), "embed_dims": (48, 96, 96, 96), "num_heads": (2, 4, 4, 4), "img_size": 64}
_NEST = {"img_size": 64, "embed_dims": (32, 64, 128), "num_heads": (2, 4, 8), "depths": (1, 1, 1)}
_GCVIT = {"img_size": 64, "depths": (1, 1, 1, 1), "window_size": (2, 2, 4, 2), "embed_dim": 32}
_SMALL = {"img_size": 64}
_SHORT = {"depth": 2}

# Family, model, size of its square images, options.
_TABLE: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("ecaresnet", "ecaresnet26t", 64, {}),
    ("seresnet", "seresnet18", 64, {}),
    ("resnetd", "resnet26d", 64, {}),
    ("resnetv2", "resnetv2_50", 64, {"layers": [1, 1, 1, 1]}),
    ("bit", "resnetv2_50x1_bit", 64, {}),
    ("res2net", "res2net50_26w_4s", 64, {}),
    ("resnest", "resnest14d", 64, {}),
    ("sknet", "skresnet18", 64, {}),
    ("dpn", "dpn48b", 64, {}),
    ("dla", "dla34", 64, {}),
    ("hrnet", "hrnet_w18_small", 64, {}),
    ("nfnet", "eca_nfnet_l0", 64, {}),
    ("repvgg", "repvgg_a0", 64, {}),
    ("cspresnet", "cspresnet50", 64, {}),
    ("cspdarknet", "cspdarknet53", 64, {}),
    ("darknet", "darknet17", 64, {}),
    ("ghostnet", "ghostnet_050", 64, {}),
    ("tinynet", "tinynet_e", 64, {}),
    ("fbnet", "fbnetc_100", 64, {}),
    ("lcnet", "lcnet_050", 64, {}),
    ("mixnet", "mixnet_s", 64, {}),
    ("mobilenetv4", "mobilenetv4_conv_small_050", 64, {}),
    ("mobilenetv4_hybrid", "mobilenetv4_hybrid_medium", 64, {}),
    ("rexnet", "rexnet_100", 64, {}),
    ("hgnet", "hgnetv2_b0", 64, {}),
    ("efficientvit_mit", "efficientvit_b0", 64, {}),
    ("efficientvit_msra", "efficientvit_m0", 64, {"img_size": 64}),
    ("efficientformer", "efficientformer_l1", 224, {}),
    ("levit", "levit_128s", 64, {"img_size": 64}),
    ("vit", "vit_tiny_patch16_224", 64, {**_SMALL, **_SHORT}),
    ("vit_relpos", "vit_relpos_small_patch16_224", 64, {**_SMALL, **_SHORT}),
    ("deit", "deit_tiny_distilled_patch16_224", 64, {**_SMALL, **_SHORT}),
    ("deit3", "deit3_small_patch16_224", 64, {**_SMALL, **_SHORT}),
    ("beit", "beit_base_patch16_224", 64, {**_SMALL, **_SHORT, "embed_dim": 192, "num_heads": 3}),
    ("eva", "eva02_tiny_patch14_224", 56, {"img_size": 56, **_SHORT}),
    ("cait", "cait_xxs24_224", 64, {**_SMALL, **_SHORT}),
    ("xcit", "xcit_nano_12_p16_224", 64, {**_SMALL, **_SHORT}),
    ("pit", "pit_ti_224", 64, {"img_size": 64, "depth": [1, 1, 1]}),
    ("pvt_v2", "pvt_v2_b0", 64, {}),
    ("twins", "twins_pcpvt_small", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}),
    ("twins_svt", "twins_svt_small", 224, {"depths": [1, 1, 2, 1]}),
    ("coat", "coat_lite_tiny", 64, {"img_size": 64}),
    ("convit", "convit_tiny", 64, {**_SMALL, "depth": 4, "local_up_to_layer": 2}),
    ("crossvit", "crossvit_tiny_240", 240, {}),
    ("convnext", "convnext_atto", 64, {}),
    ("convnextv2", "convnextv2_atto", 64, {}),
    ("edgenext", "edgenext_xx_small", 64, {}),
    ("mobilevit", "mobilevit_xxs", 64, {}),
    ("mobilevitv2", "mobilevitv2_050", 64, {}),
    ("mobileone", "mobileone_s0", 64, {}),
    ("fastvit", "fastvit_t8", 64, {}),
    ("hiera", "hiera_tiny_224", 224, {"stages": (1, 1, 1, 1)}),
    ("inception_next", "inception_next_atto", 64, {}),
    ("inception_v4", "inception_v4", 96, {}),
    ("inception_resnet", "inception_resnet_v2", 96, {}),
    ("nextvit", "nextvit_small", 64, {}),
    ("tiny_vit", "tiny_vit_5m_224", 224, {"depths": (1, 1, 1, 1)}),
    ("tresnet", "tresnet_m", 64, {"layers": [1, 1, 1, 1]}),
    ("vovnet", "ese_vovnet19b_slim", 64, {}),
    ("xception", "xception41", 64, {}),
    ("selecsls", "selecsls42", 64, {}),
    ("visformer", "visformer_tiny", 224, {"depth": (1, 1, 1)}),
    ("davit", "davit_tiny", 64, {"depths": (1, 1, 1, 1)}),
    ("maxxvit", "coatnet_pico_rw_224", 64, {"img_size": 64}),
    ("maxvit", "maxvit_pico_rw_256", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ("swin", "swin_tiny_patch4_window7_224", 56, {"img_size": 56, "depths": (1, 1, 1, 1)}),
    ("swin_s", "swin_s3_tiny_224", 224, {"depths": (1, 1, 1, 1)}),
    ("swinv2", "swinv2_tiny_window8_256", 64, {"img_size": 64, "depths": (1, 1, 1, 1), "window_size": 4}),
    ("swinv2_cr", "swinv2_cr_tiny_224", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ("sequencer", "sequencer2d_s", 64, {"img_size": 64, "layers": (1, 1, 1, 1)}),
    ("repvit", "repvit_m0_9", 64, {}),
    ("starnet", "starnet_s050", 64, {}),
    ("mambaout", "mambaout_femto", 64, {}),
    ("fasternet", "fasternet_t0", 64, {}),
    ("swiftformer", "swiftformer_xs", 64, {}),
    ("botnet", "botnet26t_256", 256, {}),
    ("halonet", "halonet26t", 256, {}),
    ("lambda", "lambda_resnet26t", 256, {}),
    ("tnt", "tnt_s_patch16_224", 64, {**_SMALL, **_SHORT}),
    ("samvit", "samvit_base_patch16_224", 64, {**_SMALL, **_SHORT, "embed_dim": 192, "num_heads": 3}),
    ("naflexvit", "naflexvit_base_patch16_gap", 64, {"depth": 2, "embed_dim": 192, "num_heads": 3}),
)

# The same, built by their classes where the registered ones take no fewer blocks.
_CLASSES: tuple[tuple[str, str, int, Callable[..., nn.Module], dict[str, Any]], ...] = (
    ("mixer", "mixer", 64, _mixer, {}),
    (
        "resmlp",
        "resmlp",
        64,
        _mixer,
        {"mlp_ratio": 4, "block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine},
    ),
    (
        "gmlp",
        "gmlp",
        64,
        _mixer,
        {"mlp_ratio": 6, "block_layer": mlp_mixer.SpatialGatingBlock, "mlp_layer": mlp_mixer.GatedMlp},
    ),
    ("convmixer", "convmixer", 64, convmixer.ConvMixer, {"dim": 96, "depth": 3, "patch_size": 7}),
    ("poolformer", "poolformer", 64, metaformer.MetaFormer, {**_METAFORMER, **_POOL}),
    ("poolformerv2", "poolformerv2", 64, metaformer.MetaFormer, {**_METAFORMER, **_POOL_V2}),
    ("convformer", "convformer", 64, metaformer.MetaFormer, {**_METAFORMER, "token_mixers": metaformer.SepConv}),
    ("caformer", "caformer", 64, metaformer.MetaFormer, {**_METAFORMER, **_CAFORMER}),
    ("focalnet", "focalnet", 64, focalnet.FocalNet, {"embed_dim": 32, "depths": (1, 1, 1, 1)}),
    ("gcvit", "gcvit", 64, gcvit.GlobalContextVit, _GCVIT),
    ("volo", "volo", 64, volo.VOLO, _VOLO),
    ("mvitv2", "mvitv2", 64, _mvit, {}),
    ("nest", "nest", 64, nest.Nest, _NEST),
)

CASES = [
    *(
        Case("timm", family, name, functools.partial(_make, name, options), features(3, size, size))
        for family, name, size, options in _TABLE
    ),
    *(
        Case("timm", family, name, functools.partial(make, num_classes=10, **options), features(3, size, size))
        for family, name, size, make, options in _CLASSES
    ),
]
