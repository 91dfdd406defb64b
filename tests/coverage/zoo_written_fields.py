"""Fields and what solves their equations, codes, flows, nets that make nets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NeRF(nn.Module):
    """Places and directions as waves, a skip to the middle, density and colour (arXiv:2003.08934)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.skips = [1]
        self.pts_linears = nn.ModuleList(
            [nn.Linear(27, width)] + [nn.Linear(width + 27 if i in self.skips else width, width) for i in range(3)]
        )
        self.feature_linear, self.alpha_linear = nn.Linear(width, width), nn.Linear(width, 1)
        self.views_linears, self.rgb_linear = nn.ModuleList([nn.Linear(width + 15, 12)]), nn.Linear(12, 3)

    @staticmethod
    def embed(x: Tensor, waves: int) -> Tensor:
        return torch.cat([x] + [f(x * 2.0**i) for i in range(waves) for f in (torch.sin, torch.cos)], -1)

    def forward(self, x: Tensor) -> Tensor:
        points, views = torch.split(x, [3, 3], dim=-1)
        points, views = self.embed(points, 4), self.embed(views, 2)
        h = points
        for i, layer in enumerate(self.pts_linears):
            h = F.relu(layer(h))
            if i in self.skips:
                h = torch.cat([points, h], -1)
        alpha = self.alpha_linear(h)
        h = torch.cat([self.feature_linear(h), views], -1)
        for layer in self.views_linears:
            h = F.relu(layer(h))
        return torch.cat([self.rgb_linear(h), alpha], -1)


class HyperSiren(nn.Module):
    """A net of sines whose weights another net makes from a code (arXiv:2006.09661)."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.sizes = [(2, hidden), (hidden, hidden), (hidden, 3)]
        self.hyper = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, i * o + o)) for i, o in self.sizes
        )

    def forward(self, coords: Tensor, code: Tensor) -> Tensor:
        x = coords
        for i, ((inp, out), hyper) in enumerate(zip(self.sizes, self.hyper, strict=True)):
            made = hyper(code)
            weight, bias = made[:, : inp * out].view(-1, out, inp), made[:, inp * out :].unsqueeze(1)
            x = torch.bmm(x, weight.transpose(1, 2)) + bias
            x = torch.sin(x) if i < 2 else x
        return x


class Siren(nn.Module):
    """Sines of 30 times what a layer makes, as the authors write it."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)])
        self.last, self.omega = nn.Linear(hidden, 3), 3.0

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        return self.last(x)


class RealNVP(nn.Module):
    """Halves that scale and shift each other; the density of what comes out (arXiv:1605.08803)."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width // 2, 20), nn.LeakyReLU(), nn.Linear(20, 16), nn.LeakyReLU(), nn.Linear(16, width)
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(x.shape[0])
        for i, net in enumerate(self.nets):
            one, two = x.chunk(2, dim=1)
            if i % 2:
                one, two = two, one
            s, t = net(one).chunk(2, dim=1)
            s = torch.tanh(s)
            two = two * torch.exp(s) + t
            x = torch.cat([two, one] if i % 2 else [one, two], dim=1)
            total = total + s.sum(1)
        return x, total - 0.5 * (x**2).sum(1)


class SpectralConv(nn.Module):
    """A product with complex weights at the lowest frequencies, those of both signs (arXiv:2010.08895)."""

    def __init__(self, i: int, o: int, modes: int) -> None:
        super().__init__()
        self.o, self.modes = o, modes
        self.weights = nn.ParameterList(nn.Parameter(0.1 * torch.randn(i, o, modes, modes, 2)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x_ft, m = torch.fft.rfft2(x), self.modes
        out = torch.zeros(x.size(0), self.o, x.size(-2), x.size(-1) // 2 + 1, dtype=torch.cfloat)
        low, high = (torch.view_as_complex(w) for w in self.weights)
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", x_ft[:, :, :m, :m], low)
        out[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", x_ft[:, :, -m:, :m], high)
        return torch.fft.irfft2(out, s=(x.size(-2), x.size(-1)))


class FNO(nn.Module):
    """A Fourier neural operator: lifted, two layers with a path around each, projected."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.p, self.q1, self.q2 = nn.Linear(3, width), nn.Conv2d(width, 20, 1), nn.Conv2d(20, 1, 1)
        self.convs = nn.ModuleList(SpectralConv(width, width, 3) for _ in range(2))
        self.ws = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.p(x).permute(0, 3, 1, 2)
        for i, (conv, w) in enumerate(zip(self.convs, self.ws, strict=True)):
            x = conv(x) + w(x)
            x = F.gelu(x) if i == 0 else x
        return self.q2(F.gelu(self.q1(x))).permute(0, 2, 3, 1)


class VQVAE(nn.Module):
    """The nearest of a codebook's vectors, passed straight through (arXiv:1711.00937)."""

    def __init__(self, width: int = 12, codes: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 10, 4, 2, 1), nn.ReLU(), nn.Conv2d(10, width, 4, 2, 1))
        self.embedding = nn.Embedding(codes, width)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(width, 10, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(10, 3, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x).permute(0, 2, 3, 1).contiguous()
        flat = z.view(-1, self.embedding.embedding_dim)
        weight = self.embedding.weight
        distances = flat.pow(2).sum(1, keepdim=True) + weight.pow(2).sum(1) - 2 * torch.matmul(flat, weight.t())
        quantized = self.embedding(torch.argmin(distances, dim=1)).view(z.shape)
        loss = F.mse_loss(quantized, z.detach()) + 0.25 * F.mse_loss(quantized.detach(), z)
        quantized = z + (quantized - z).detach()
        return self.decoder(quantized.permute(0, 3, 1, 2).contiguous()), loss
