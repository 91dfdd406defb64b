"""Cases written anew after public code: detectors, diffusion, state spaces, experts, graphs, speech, video and more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import zoo_written_detectors as detectors
from . import zoo_written_fields as fields
from . import zoo_written_forecasts as forecasts
from . import zoo_written_generators as generators
from . import zoo_written_graphs as graphs
from . import zoo_written_others as others
from . import zoo_written_sequences as sequences
from . import zoo_written_speech as speech
from . import zoo_written_video as video
from .zoo import Case, Inputs, both, features, tokens


def numbers(below: int) -> Inputs:
    """One number for each sample, (N,)."""
    return lambda samples, generator: (torch.randint(below, (samples,), generator=generator),)


def edge_list(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """As many graphs of five nodes and nine edges in one: nodes' features, edges."""
    nodes = torch.randn(5 * samples, 8, generator=generator)
    first = 5 * torch.arange(samples).repeat_interleave(9)
    return nodes, torch.randint(5, (2, 9 * samples), generator=generator) + first


def batched_graphs(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The same, which graph every node is of, and the sizes of all."""
    batch = torch.arange(samples).repeat_interleave(5)
    return *edge_list(samples, generator), batch, torch.full((samples,), 5)


def stories(samples: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Five sentences of six words for each sample."""
    return (torch.randint(40, (samples, 5, 6), generator=generator),)


_IMAGE, _VIDEO = features(3, 16, 16), features(4, 3, 16, 16)
_TEXT = tokens(40, 8)

# Family, name, network, inputs.
_TABLE: tuple[tuple[str, str, type[nn.Module], Inputs], ...] = (
    ("anchor detector", "retinanet", detectors.RetinaNet, features(3, 64, 64)),
    ("yolo", "yolo", detectors.Yolo, features(3, 32, 32)),
    ("query detector", "detr", detectors.Detr, _IMAGE),
    ("point cloud", "pointnet", detectors.PointNet, features(3, 20)),
    ("point cloud", "dgcnn", detectors.EdgeConv, features(3, 12)),
    ("optical flow", "raft", detectors.Flow, both(_IMAGE, _IMAGE)),
    ("diffusion", "diffusion-unet", generators.DiffusionUNet, both(_IMAGE, numbers(1000), features(5, 12))),
    ("diffusion", "dit", generators.DiT, both(_IMAGE, numbers(1000), numbers(10))),
    ("gan", "stylegan2", generators.StyleGenerator, features(16)),
    ("vae", "vae", generators.VAE, _IMAGE),
    ("vocoder", "hifi-gan", generators.Vocoder, features(10, 9)),
    ("state space", "s4d", sequences.S4D, features(12, 3)),
    ("state space", "mamba-scan", sequences.Mamba, _TEXT),
    ("linear attention", "retnet", sequences.RetNet, _TEXT),
    ("linear attention", "rwkv4", sequences.RWKV, _TEXT),
    ("forecasting", "tcn", forecasts.TCN, features(2, 20)),
    ("forecasting", "n-beats", forecasts.NBeats, features(12)),
    ("forecasting", "tft", forecasts.Fusion, both(features(6, 4), features(3))),
    ("graph", "gcn", graphs.GCN, both(features(6, 8), features(6, 6))),
    ("graph", "gat", graphs.GAT, both(features(6, 8), features(6, 6))),
    ("graph", "gat-edges", graphs.SparseGAT, edge_list),
    ("graph", "gin", graphs.GIN, batched_graphs),
    ("experts", "moe-soft", graphs.SoftExperts, features(8)),
    ("experts", "moe-top2", graphs.TopExperts, _TEXT),
    ("experts", "moe-switch", graphs.Switch, _TEXT),
    ("recommender", "dlrm", graphs.DLRM, both(features(6), tokens(20, 3))),
    ("recommender", "deepfm", graphs.DeepFM, tokens(5, 4)),
    ("recommender", "ncf", graphs.NCF, both(numbers(30), numbers(40))),
    ("recommender", "two-tower", graphs.TwoTower, both(tokens(40, 7), numbers(40), features(5))),
    ("speech", "conformer", speech.Conformer, features(23, 19)),
    ("speech", "x-vector", speech.XVector, features(12, 24)),
    ("speech", "ecapa-tdnn", speech.Ecapa, features(12, 14)),
    ("speech", "deepspeech2", speech.DeepSpeech, features(16, 10)),
    ("video", "r2plus1d", video.R2Plus1D, features(3, 4, 16, 16)),
    ("video", "cnn-gru", video.FramesAndGRU, _VIDEO),
    ("video", "timesformer", video.DividedAttention, _VIDEO),
    ("image-text pair", "clip", video.CLIP, both(_IMAGE, _TEXT)),
    ("set", "set-transformer", others.SetTransformer, features(7, 3)),
    ("field", "nerf", fields.NeRF, features(9, 6)),
    ("field", "siren", fields.Siren, features(9, 2)),
    ("hypernetwork", "hyper-siren", fields.HyperSiren, both(features(9, 2), features(8))),
    ("agent", "dueling", others.Dueling, features(4, 16, 16)),
    ("pointer", "pointer-generator", others.PointerGenerator, both(tokens(40, 7), tokens(40, 4))),
    ("pointer", "pointer-net", others.PointerNet, features(6, 2)),
    ("capsules", "capsnet", others.CapsNet, _IMAGE),
    ("gates", "cbam", others.CBAM, _IMAGE),
    ("field", "fno", fields.FNO, features(8, 8, 3)),
    ("vae", "vq-vae", fields.VQVAE, _IMAGE),
    ("memory", "memory-net", others.MemoryNet, both(stories, tokens(40, 6))),
    ("flow", "realnvp", fields.RealNVP, features(6)),
)

CASES = [Case("written", family, name, make, inputs) for family, name, make, inputs in _TABLE]
