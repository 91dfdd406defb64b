"""More cases of transformers that hear, forecast or act: speech, codecs, vocoders, time series, decisions."""

from __future__ import annotations

import torch
from torch import Tensor

from .transformers_parts import ENDS, PLAIN, TWO, VIT, WAVES, Entry, cases_of
from .zoo import both, features, tokens

_VALUES, _WAVE = ("input_values",), features(400)


def _future(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Past values, their times, which were observed, future values, their times."""
    return (
        torch.randn(samples, 20, generator=generator),
        torch.randn(samples, 20, 2, generator=generator),
        torch.ones(samples, 20),
        torch.randn(samples, 6, generator=generator),
        torch.randn(samples, 6, 2, generator=generator),
    )


def _observed(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """All steps."""
    return (torch.ones(samples, 5),)


_SERIES = ("past_values", "past_time_features", "past_observed_mask", "future_values", "future_time_features")
_FORECAST = {
    **{name: TWO[name] for name in TWO if name not in ("vocab_size", "pad_token_id")},
    "prediction_length": 6,
    "context_length": 14,
    "lags_sequence": [1, 2, 6],
    "num_time_features": 2,
    "scaling": False,
}
_PATCHES = {
    "num_input_channels": 3,
    "context_length": 32,
    "patch_length": 8,
    "patch_stride": 8,
    "prediction_length": 6,
    "d_model": 32,
    "scaling": None,
}
_SPECTRUM = {name: VIT[name] for name in VIT if name != "image_size"}

_TABLE: tuple[Entry, ...] = (
    ("hubert", "Hubert", _VALUES, _WAVE, 32, WAVES),
    ("wavlm", "WavLM", _VALUES, _WAVE, 32, {**WAVES, "num_buckets": 20, "max_bucket_distance": 40}),
    ("sew", "SEW", _VALUES, _WAVE, 32, {**WAVES, "squeeze_factor": 2}),
    ("unispeech", "UniSpeech", _VALUES, _WAVE, 32, WAVES),
    ("data2vec_audio", "Data2VecAudio", _VALUES, _WAVE, 32, {**WAVES, "num_conv_pos_embeddings": 2}),
    ("wav2vec2_conformer", "Wav2Vec2Conformer", _VALUES, _WAVE, 32, WAVES),
    (
        "speech_to_text",
        "Speech2Text",
        ("input_features", "decoder_input_ids"),
        both(features(24, 20), tokens(99, 6)),
        32,
        {
            **TWO,
            **ENDS,
            "input_feat_per_channel": 20,
            "conv_channels": 24,
            "max_source_positions": 32,
            "max_target_positions": 32,
            "decoder_start_token_id": 1,
        },
    ),
    (
        "moonshine",
        "Moonshine",
        ("input_values", "decoder_input_ids"),
        both(features(1200), tokens(99, 6)),
        32,
        {
            **{name: PLAIN[name] for name in ("vocab_size", "hidden_size", "intermediate_size")},
            **ENDS,
            **{f"{side}_num_hidden_layers": 2 for side in ("encoder", "decoder")},
            **{f"{side}_num_attention_heads": 4 for side in ("encoder", "decoder")},
        },
    ),
    (
        "audio_spectrogram_transformer",
        "AST",
        _VALUES,
        features(32, 32),
        32,
        {**_SPECTRUM, "max_length": 32, "num_mel_bins": 32, "time_stride": 8, "frequency_stride": 8},
    ),
    (
        "encodec",
        "EncodecModel",
        _VALUES,
        features(1, 320),
        ("audio_values",),
        {
            "num_filters": 4,
            "hidden_size": 16,
            "codebook_dim": 16,
            "codebook_size": 16,
            "upsampling_ratios": [4, 2],
            "num_lstm_layers": 1,
        },
    ),
    (
        "dac",
        "DacModel",
        _VALUES,
        features(1, 320),
        ("audio_values",),
        {
            "encoder_hidden_size": 8,
            "downsampling_ratios": [2, 4],
            "decoder_hidden_size": 32,
            "n_codebooks": 2,
            "codebook_size": 16,
            "codebook_dim": 4,
        },
    ),
    (
        "univnet",
        "UnivNetModel",
        ("input_features", "noise_sequence"),
        both(features(8, 20), features(8, 8)),
        ("waveforms",),
        {
            "model_in_channels": 8,
            "model_hidden_channels": 8,
            "num_mel_bins": 20,
            "resblock_kernel_sizes": [3],
            "resblock_stride_sizes": [4],
            "resblock_dilation_sizes": [[1, 3]],
            "kernel_predictor_num_blocks": 1,
            "kernel_predictor_hidden_channels": 8,
        },
    ),
    (
        "patchtst",
        "PatchTSTForPrediction",
        ("past_values",),
        features(32, 3),
        ("prediction_outputs",),
        {
            **_PATCHES,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
        },
    ),
    (
        "patchtsmixer",
        "PatchTSMixerForPrediction",
        ("past_values",),
        features(32, 3),
        ("prediction_outputs",),
        {**_PATCHES, "num_layers": 2},
    ),
    ("time_series_transformer", "TimeSeriesTransformer", _SERIES, _future, 32, _FORECAST),
    ("informer", "Informer", _SERIES, _future, 32, {**_FORECAST, "distil": False}),
    ("autoformer", "Autoformer", _SERIES, _future, 7, {**_FORECAST, "label_length": 4}),
    (
        "decision_transformer",
        "DecisionTransformerModel",
        ("states", "actions", "returns_to_go", "timesteps", "attention_mask"),
        both(features(5, 6), features(5, 3), features(5, 1), tokens(20, 5), _observed),
        ("state_preds", "action_preds", "return_preds"),
        {"state_dim": 6, "act_dim": 3, "hidden_size": 32, "max_ep_len": 20, "n_layer": 2, "n_head": 4},
    ),
    (
        "perceiver",
        "Perceiver",
        ("inputs",),
        features(7, 24),
        32,
        {
            "num_latents": 6,
            "d_latents": 32,
            "d_model": 24,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 4,
            "num_cross_attention_heads": 4,
        },
    ),
)

CASES = cases_of(_TABLE)
