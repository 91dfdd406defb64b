"""Nets for videos, and for pictures with their captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class R2Plus1D(nn.Module):
    """Convolutions over space, then over time, in residual blocks (arXiv:1711.11248)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(self.factored(3, 10, 12), nn.BatchNorm3d(12), nn.ReLU(inplace=True))
        self.conv1 = nn.Sequential(self.factored(12, 20, 16, 2), nn.BatchNorm3d(16), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(self.factored(16, 22, 16), nn.BatchNorm3d(16))
        self.downsample = nn.Sequential(nn.Conv3d(12, 16, 1, 2, bias=False), nn.BatchNorm3d(16))
        self.avgpool, self.fc = nn.AdaptiveAvgPool3d((1, 1, 1)), nn.Linear(16, 5)

    @staticmethod
    def factored(i: int, mid: int, o: int, s: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(i, mid, (1, 3, 3), (1, s, s), (0, 1, 1), bias=False), nn.BatchNorm3d(mid), nn.ReLU(inplace=True),
            nn.Conv3d(mid, o, (3, 1, 1), (s, 1, 1), (1, 0, 0), bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.conv2(self.conv1(x)) + self.downsample(x))
        return self.fc(self.avgpool(x).flatten(1))


class FramesAndGRU(nn.Module):
    """A convolutional net on every frame, a GRU over them."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(3, 10, 3, 2, 1), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 16, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.rnn, self.fc = nn.GRU(16, 20, 2, batch_first=True), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c, h, w = x.size()
        y = self.cnn(x.view(n * t, c, h, w)).view(n, t, -1)
        return self.fc(self.rnn(y)[0][:, -1, :])


class DividedAttention(nn.Module):
    """Attention over time for every place, then over places for every frame (TimeSformer, arXiv:2102.05095)."""

    def __init__(self, width: int = 24, heads: int = 4, frames: int = 4) -> None:
        super().__init__()
        self.heads, self.frames = heads, frames
        self.patch, self.cls_token = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, width))
        self.time_embed = nn.Parameter(torch.zeros(1, frames, width))
        self.temporal_norm, self.norm1, self.norm2, self.norm = (nn.LayerNorm(width) for _ in range(4))
        self.temporal_qkv, self.temporal_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.qkv, self.proj, self.temporal_fc = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))
        self.head = nn.Linear(width, 5)

    def attend(self, x: Tensor, qkv: nn.Linear, proj: nn.Linear) -> Tensor:
        n, t, width = x.shape
        q, k, v = qkv(x).reshape(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attn = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return proj((attn @ v).transpose(1, 2).reshape(n, t, width))

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        x = self.patch(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.size(0), -1, -1), x], dim=1) + self.pos_embed
        cls, places, width = x[:n, 0, :].unsqueeze(1), x.size(1) - 1, x.size(2)
        x = x[:, 1:].reshape(n, t, places, width).permute(0, 2, 1, 3).reshape(n * places, t, width) + self.time_embed
        x = x.reshape(n, places * t, width)
        y = self.attend(self.temporal_norm(x).reshape(n * places, t, width), self.temporal_qkv, self.temporal_proj)
        x = x + self.temporal_fc(y.reshape(n, places * t, width))
        y = x.reshape(n, places, t, width).permute(0, 2, 1, 3).reshape(n * t, places, width)
        first = cls.repeat(1, t, 1).reshape(n * t, 1, width)
        y = self.attend(self.norm1(torch.cat((first, y), 1)), self.qkv, self.proj)
        first = y[:, 0, :].reshape(n, t, width).mean(1, True)
        y = y[:, 1:, :].reshape(n, t, places, width).permute(0, 2, 1, 3).reshape(n, places * t, width)
        x = torch.cat((cls, x), 1) + torch.cat((first, y), 1)
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


class CLIPBlock(nn.Module):
    """As OpenAI's code: (steps, N, width), a packed attention module, QuickGELU."""

    def __init__(self, width: int, mask: Tensor | None = None) -> None:
        super().__init__()
        self.attn, self.ln_1, self.ln_2 = nn.MultiheadAttention(width, 4), nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_fc, self.c_proj, self.attn_mask = nn.Linear(width, 40), nn.Linear(40, width), mask

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        y = self.c_fc(self.ln_2(x))
        return x + self.c_proj(y * torch.sigmoid(1.702 * y))


class CLIP(nn.Module):
    """Pictures and captions; the cosines of all pairs (arXiv:2103.00020)."""

    def __init__(self, width: int = 24, embed: int = 16) -> None:
        super().__init__()
        self.conv1, self.class_embedding = nn.Conv2d(3, width, 4, 4, bias=False), nn.Parameter(torch.randn(width))
        self.positional_embedding, self.text_positions = (
            nn.Parameter(torch.randn(17, width)),
            nn.Parameter(torch.randn(8, width)),
        )
        self.ln_pre, self.ln_post, self.ln_final = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        mask = torch.full((8, 8), float("-inf")).triu(1)
        self.visual, self.text = CLIPBlock(width), CLIPBlock(width, mask)
        self.token_embedding, self.proj = nn.Embedding(40, width), nn.Parameter(torch.randn(width, embed) * width**-0.5)
        self.text_projection, self.logit_scale = (
            nn.Parameter(torch.randn(width, embed) * width**-0.5),
            nn.Parameter(torch.tensor(1.5)),
        )

    def encode_image(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x.reshape(x.shape[0], x.shape[1], -1).permute(0, 2, 1)
        x = torch.cat([self.class_embedding + torch.zeros(x.shape[0], 1, x.shape[-1]), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding).permute(1, 0, 2)
        return self.ln_post(self.visual(x).permute(1, 0, 2)[:, 0, :]) @ self.proj

    def encode_text(self, text: Tensor) -> Tensor:
        x = self.token_embedding(text) + self.text_positions
        x = self.ln_final(self.text(x.permute(1, 0, 2)).permute(1, 0, 2))
        return x[torch.arange(x.shape[0]), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = self.encode_image(image), self.encode_text(text)
        images, texts = images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()
