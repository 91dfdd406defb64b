"""Nets that make images, sound or fields: diffusion, style, codes, flows, coordinates."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


def timestep_embedding(steps: Tensor, width: int, period: int = 10000) -> Tensor:
    """Sines and cosines of (N,) steps, (N, width)."""
    half = width // 2
    freqs = torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float32) / half)
    args = steps[:, None].float() * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)


class ResBlock(nn.Module):
    """A residual block whose second norm the step scales and shifts (arXiv:2105.05233)."""

    def __init__(self, i: int, emb: int, o: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(4, i), nn.SiLU(), nn.Conv2d(i, o, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * o))
        self.out_layers = nn.Sequential(nn.GroupNorm(4, o), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(o, o, 3, padding=1))
        self.skip_connection = nn.Identity() if i == o else nn.Conv2d(i, o, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x)
        scale, shift = torch.chunk(self.emb_layers(emb)[..., None, None], 2, dim=1)
        norm, rest = self.out_layers[0], self.out_layers[1:]
        return self.skip_connection(x) + rest(norm(h) * (1 + scale) + shift)


class QKVBlock(nn.Module):
    """Self-attention over positions, heads in front of their queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(4, width)
        self.qkv, self.proj_out = nn.Conv1d(width, width * 3, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, *spatial = x.shape
        x = x.reshape(b, c, -1)
        qkv = self.qkv(self.norm(x))
        bs, width, length = qkv.shape
        ch = width // (3 * self.heads)
        q, k, v = qkv.reshape(bs * self.heads, ch * 3, length).split(ch, dim=1)
        scale = 1 / math.sqrt(math.sqrt(ch))
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale), dim=-1)
        a = torch.einsum("bts,bcs->bct", weight, v).reshape(bs, -1, length)
        return (x + self.proj_out(a)).reshape(b, c, *spatial)


class CrossBlock(nn.Module):
    """Attention from positions to a context, then a gated feed-forward net (arXiv:2112.10752)."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm, self.proj_in, self.proj_out = (
            nn.GroupNorm(4, width), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1),
        )  # fmt: skip
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.to_k, self.to_v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.geglu, self.ff = nn.Linear(width, 48), nn.Linear(24, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(b, h * w, c)
        q, k, v = self.to_q(self.norm1(y)), self.to_k(context), self.to_v(context)
        q, k, v = (
            t.reshape(b, t.shape[1], self.heads, -1).permute(0, 2, 1, 3).reshape(b * self.heads, t.shape[1], -1)
            for t in (q, k, v)
        )
        attn = (torch.einsum("bid,bjd->bij", q, k) * self.scale).softmax(dim=-1)
        out = torch.einsum("bij,bjd->bid", attn, v)
        out = out.reshape(b, self.heads, h * w, -1).permute(0, 2, 1, 3).reshape(b, h * w, -1)
        y = y + self.to_out(out)
        value, gate = self.geglu(self.norm2(y)).chunk(2, dim=-1)
        y = y + self.ff(value * F.gelu(gate))
        return x + self.proj_out(y.reshape(b, h, w, c).permute(0, 3, 1, 2))


class DiffusionUNet(nn.Module):
    """Noise, step and context in; the noise out."""

    def __init__(self, width: int = 16, context: int = 12) -> None:
        super().__init__()
        self.width, emb = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.conv_in, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)
        self.in1, self.in2 = ResBlock(width, emb, width), ResBlock(width, emb, 2 * width)
        self.in_attn = CrossBlock(2 * width, context, 4)
        self.mid1, self.mid_attn = ResBlock(2 * width, emb, 2 * width), QKVBlock(2 * width, 4)
        self.out1, self.out2 = ResBlock(4 * width, emb, 2 * width), ResBlock(3 * width, emb, 2 * width)
        self.up, self.out3 = nn.Conv2d(2 * width, width, 3, padding=1), ResBlock(2 * width, emb, width)
        self.out = nn.Sequential(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor, steps: Tensor, context: Tensor) -> Tensor:
        emb = self.time_embed(timestep_embedding(steps, self.width))
        hs = [self.in1(self.conv_in(x), emb)]
        hs.append(self.down(hs[-1]))
        hs.append(self.in_attn(self.in2(hs[-1], emb), context))
        h = self.mid_attn(self.mid1(hs[-1], emb))
        h = self.out1(torch.cat([h, hs.pop()], dim=1), emb)
        h = self.out2(torch.cat([h, hs.pop()], dim=1), emb)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.out(self.out3(torch.cat([h, hs.pop()], dim=1), emb))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """As the official code does."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class DiTBlock(nn.Module):
    """Norms without weights, scaled and shifted by the condition, and gates (adaLN-zero, arXiv:2212.09748)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.GELU(approximate="tanh"), nn.Linear(40, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attention(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    """A diffusion transformer over patches, with classes as the condition."""

    def __init__(self, width: int = 24, patch: int = 4, side: int = 16) -> None:
        super().__init__()
        self.width, self.patch = width, patch
        self.x_embedder = nn.Conv2d(3, width, patch, patch)
        self.t_embedder = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.y_embedder = nn.Embedding(11, width)
        self.pos_embed = nn.Parameter(torch.randn(1, (side // patch) ** 2, width), requires_grad=False)
        self.blocks = nn.ModuleList(DiTBlock(width, 4) for _ in range(2))
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, patch * patch * 6)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x = self.x_embedder(x).flatten(2).transpose(1, 2) + self.pos_embed
        c = self.t_embedder(timestep_embedding(t, 16)) + self.y_embedder(y)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.final(c).chunk(2, dim=1)
        x = self.linear(modulate(self.norm_final(x), shift, scale))
        side = int(x.shape[1] ** 0.5)
        x = torch.einsum("nhwpqc->nchpwq", x.reshape(len(x), side, side, self.patch, self.patch, 6))
        return x.reshape(len(x), 6, side * self.patch, side * self.patch)


class EqualLinear(nn.Module):
    """Weights of variance 1, scaled as they are used."""

    def __init__(self, i: int, o: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(o, i)), nn.Parameter(torch.full((o,), bias))
        self.scale = 1 / math.sqrt(i)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class ModulatedConv(nn.Module):
    """A convolution whose weights a style scales, for every sample anew (StyleGAN2, arXiv:1912.04958)."""

    def __init__(self, i: int, o: int, k: int, style: int, demodulate: bool = True) -> None:
        super().__init__()
        self.i, self.o, self.k, self.demodulate = i, o, k, demodulate
        self.scale = 1 / math.sqrt(i * k**2)
        self.weight, self.modulation = nn.Parameter(torch.randn(1, o, i, k, k)), EqualLinear(style, i, 1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        weight = self.scale * self.weight * self.modulation(style).view(batch, 1, channels, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(batch, self.o, 1, 1, 1)
        weight = weight.view(batch * self.o, channels, self.k, self.k)
        out = F.conv2d(x.view(1, batch * channels, height, width), weight, padding=self.k // 2, groups=batch)
        return out.view(batch, self.o, height, width)


class StyleGenerator(nn.Module):
    """A mapping net, a learned constant, modulated convolutions, images summed over resolutions."""

    def __init__(self, style: int = 16) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(EqualLinear(style, style) for _ in range(3))
        self.input = nn.Parameter(torch.randn(1, 24, 4, 4))
        self.convs = nn.ModuleList([ModulatedConv(24, 24, 3, style), ModulatedConv(24, 16, 3, style)])
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(1, c, 1, 1)) for c in (24, 16))
        self.rgbs = nn.ModuleList(ModulatedConv(c, 3, 1, style, demodulate=False) for c in (24, 16))

    def forward(self, z: Tensor) -> Tensor:
        w = z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), 0.2) * math.sqrt(2)
        x, skip = self.input.repeat(len(z), 1, 1, 1), None
        for i, (conv, rgb) in enumerate(zip(self.convs, self.rgbs, strict=True)):
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(conv(x, w) + self.bias[i], 0.2) * math.sqrt(2)
            image = rgb(x, w)
            skip = image if skip is None else image + F.interpolate(skip, scale_factor=2, mode="bilinear")
        return skip


class VAE(nn.Module):
    """Mean and variance of a code; drawn from in ``train()``, the mean itself in ``eval()`` (arXiv:1312.6114)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.LeakyReLU(),
            nn.Conv2d(12, 20, 3, 2, 1), nn.BatchNorm2d(20), nn.LeakyReLU(),
        )  # fmt: skip
        self.fc_mu, self.fc_var, self.decoder_input = nn.Linear(320, 10), nn.Linear(320, 10), nn.Linear(10, 320)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(20, 12, 3, 2, 1, output_padding=1), nn.BatchNorm2d(12), nn.LeakyReLU(),
            nn.ConvTranspose2d(12, 12, 3, 2, 1, output_padding=1), nn.BatchNorm2d(12), nn.LeakyReLU(),
            nn.Conv2d(12, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        code = torch.flatten(self.encoder(x), start_dim=1)
        mu, log_var = self.fc_mu(code), self.fc_var(code)
        z = torch.randn_like(mu) * torch.exp(0.5 * log_var) + mu if self.training else mu
        return [self.decoder(self.decoder_input(z).view(-1, 20, 4, 4)), mu, log_var]


class Vocoder(nn.Module):
    """Transposed convolutions, and after each a mean of residual blocks of several kernels (HiFi-GAN, 2010.05646)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_pre = weight_norm(nn.Conv1d(10, 24, 7, padding=3))
        self.ups = nn.ModuleList(weight_norm(nn.ConvTranspose1d(i, o, 4, 2, 1)) for i, o in ((24, 16), (16, 12)))
        self.resblocks = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.Conv1d(c, c, k, dilation=d, padding=d * (k - 1) // 2)) for d in (1, 3))
            for c in (16, 12) for k in (3, 5)
        )  # fmt: skip
        self.conv_post = weight_norm(nn.Conv1d(12, 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_pre(x)
        for i, up in enumerate(self.ups):
            x, xs = up(F.leaky_relu(x, 0.1)), None
            for block in self.resblocks[2 * i : 2 * i + 2]:
                y = x
                for conv in block:
                    y = conv(F.leaky_relu(y, 0.1)) + y
                xs = y if xs is None else xs + y
            x = xs / 2
        return torch.tanh(self.conv_post(F.leaky_relu(x)))
