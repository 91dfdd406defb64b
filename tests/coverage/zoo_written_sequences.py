"""Nets that run along time: state spaces, retention, token shift."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class S4DLayer(nn.Module):
    """A diagonal state space as a convolution over all of time, in the frequencies (S4D, arXiv:2206.11893)."""

    def __init__(self, width: int, states: int = 8) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.rand(width) * 4 - 6)
        self.C = nn.Parameter(torch.randn(width, states // 2, 2) * 0.5**0.5)
        self.log_A_real = nn.Parameter(torch.log(0.5 * torch.ones(width, states // 2)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(states // 2).float().repeat(width, 1))
        self.D = nn.Parameter(torch.randn(width))
        self.activation = nn.GELU()
        self.output_linear = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=-2))

    def kernel(self, length: int) -> Tensor:
        dt = torch.exp(self.log_dt)
        c = torch.view_as_complex(self.C)
        a = -torch.exp(self.log_A_real) + 1j * self.A_imag
        dta = a * dt.unsqueeze(-1)
        k = dta.unsqueeze(-1) * torch.arange(length)
        c = c * (torch.exp(dta) - 1.0) / a
        return 2 * torch.einsum("hn, hnl -> hl", c, torch.exp(k)).real

    def forward(self, u: Tensor) -> Tensor:
        length = u.size(-1)
        k_f = torch.fft.rfft(self.kernel(length), n=2 * length)
        u_f = torch.fft.rfft(u, n=2 * length)
        y = torch.fft.irfft(u_f * k_f, n=2 * length)[..., :length] + u * self.D.unsqueeze(-1)
        return self.output_linear(self.activation(y))


class S4D(nn.Module):
    """Residual layers, norms after them, a mean over time."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, width), nn.Linear(width, 5)
        self.layers = nn.ModuleList(S4DLayer(width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x).transpose(-1, -2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm((layer(x) + x).transpose(-1, -2)).transpose(-1, -2)
        return self.decoder(x.transpose(-1, -2).mean(dim=1))


class RMSNorm(nn.Module):
    """By hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class MambaBlock(nn.Module):
    """A state space whose steps depend on the input, step by step (arXiv:2312.00752)."""

    def __init__(self, width: int, inner: int, rank: int, states: int) -> None:
        super().__init__()
        self.inner, self.rank, self.states = inner, rank, states
        self.in_proj, self.out_proj = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 3, groups=inner, padding=2)
        self.x_proj, self.dt_proj = nn.Linear(inner, rank + 2 * states, bias=False), nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, states + 1).float().repeat(inner, 1)))
        self.D = nn.Parameter(torch.ones(inner))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        x, res = self.in_proj(x).split([self.inner, self.inner], dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[:, :, :length].transpose(1, 2))
        return self.out_proj(self.ssm(x) * F.silu(res))

    def ssm(self, x: Tensor) -> Tensor:
        a = -torch.exp(self.A_log.float())
        delta, b, c = self.x_proj(x).split([self.rank, self.states, self.states], dim=-1)
        delta = F.softplus(self.dt_proj(delta))
        d_a = torch.exp(torch.einsum("bld,dn->bldn", delta, a))
        d_b_u = torch.einsum("bld,bln,bld->bldn", delta, b, x)
        h, ys = torch.zeros((x.shape[0], self.inner, self.states)), []
        for i in range(x.shape[1]):
            h = d_a[:, i] * h + d_b_u[:, i]
            ys.append(torch.einsum("bdn,bn->bd", h, c[:, i, :]))
        return torch.stack(ys, dim=1) + x * self.D


class Mamba(nn.Module):
    """Residual blocks behind norms; one table for both ends."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, width)
        self.layers = nn.ModuleList(MambaBlock(width, 24, 4, 6) for _ in range(2))
        self.norms, self.norm_f = nn.ModuleList(RMSNorm(width) for _ in range(2)), RMSNorm(width)
        self.lm_head = nn.Linear(width, 40, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(norm(x)) + x
        return self.lm_head(self.norm_f(x))


class Retention(nn.Module):
    """Attention without a softmax that fades with distance, heads normed one by one, a gate (arXiv:2307.08621)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.key, self.head = heads, width // heads, 2 * width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.v_proj, self.g_proj = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out_proj, self.group_norm = nn.Linear(2 * width, width, bias=False), nn.LayerNorm(self.head, 1e-6, False)
        self.register_buffer("decay", torch.log(1 - 2 ** (-5 - torch.arange(heads).float())))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        index = torch.arange(t)
        mask = torch.masked_fill(index[:, None] - index[None, :], (index[:, None] < index[None, :]), 0)
        mask = torch.exp(mask * self.decay[:, None, None]).tril()
        q = self.q_proj(x).view(b, t, self.heads, self.key).transpose(1, 2)
        k = (self.k_proj(x) * self.key**-0.5).view(b, t, self.heads, self.key).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.heads, self.head).transpose(1, 2)
        out = torch.matmul(q @ k.transpose(-1, -2) * mask, v).transpose(1, 2)
        return self.out_proj(F.silu(self.g_proj(x)) * self.group_norm(out).reshape(b, t, self.head * self.heads))


class RetNet(nn.Module):
    """Retention and a gated feed-forward net."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(40, width), RMSNorm(width)
        self.layers = nn.ModuleList(Retention(width, 4) for _ in range(2))
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(4))
        self.fc1, self.gate, self.fc2 = (
            nn.ModuleList(nn.Linear(i, o, bias=False) for _ in range(2))
            for i, o in ((width, 28), (width, 28), (28, width))
        )
        self.output = nn.Linear(width, 40, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for i in range(2):
            x = x + self.layers[i](self.norms[2 * i](x))
            y = self.norms[2 * i + 1](x)
            x = x + self.fc2[i](F.gelu(self.fc1[i](y)) * self.gate[i](y))
        return self.output(self.norm(x))


class RWKVBlock(nn.Module):
    """Token shift, a weighted mean that fades with time, squared ReLU (RWKV-4, arXiv:2305.13048)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.ln1, self.ln2, self.time_shift = nn.LayerNorm(width), nn.LayerNorm(width), nn.ZeroPad2d((0, 0, 1, -1))
        self.time_decay, self.time_first = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.mix_k, self.mix_v, self.mix_r, self.ffn_mix_k, self.ffn_mix_r = (
            nn.Parameter(torch.rand(1, 1, width)) for _ in range(5)
        )
        self.key, self.value, self.receptance, self.output, self.ffn_receptance = (
            nn.Linear(width, width, bias=False) for _ in range(5)
        )
        self.ffn_key, self.ffn_value = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def wkv(self, k: Tensor, v: Tensor) -> Tensor:
        w, u = -torch.exp(self.time_decay), self.time_first
        aa, bb, pp, outs = torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0]), torch.full_like(k[:, 0], -1e30), []
        for t in range(k.shape[1]):
            ww = u + k[:, t]
            p = torch.maximum(pp, ww)
            e1, e2 = torch.exp(pp - p), torch.exp(ww - p)
            outs.append((e1 * aa + e2 * v[:, t]) / (e1 * bb + e2))
            p = torch.maximum(pp + w, k[:, t])
            e1, e2 = torch.exp(pp + w - p), torch.exp(k[:, t] - p)
            aa, bb, pp = e1 * aa + e2 * v[:, t], e1 * bb + e2, p
        return torch.stack(outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x)
        past = self.time_shift(y)
        k, v, r = (
            layer(y * mix + past * (1 - mix))
            for layer, mix in ((self.key, self.mix_k), (self.value, self.mix_v), (self.receptance, self.mix_r))
        )
        x = x + self.output(torch.sigmoid(r) * self.wkv(k, v))
        y = self.ln2(x)
        past = self.time_shift(y)
        k = torch.square(torch.relu(self.ffn_key(y * self.ffn_mix_k + past * (1 - self.ffn_mix_k))))
        r = self.ffn_receptance(y * self.ffn_mix_r + past * (1 - self.ffn_mix_r))
        return x + torch.sigmoid(r) * self.ffn_value(k)


class RWKV(nn.Module):
    """Two blocks."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.emb, self.ln_in, self.ln_out = nn.Embedding(40, width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks, self.head = (
            nn.Sequential(*(RWKVBlock(width, 28) for _ in range(2))),
            nn.Linear(width, 40, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.ln_out(self.blocks(self.ln_in(self.emb(x)))))
