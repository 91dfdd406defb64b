"""Sets, agents, copies, capsules, gates, memories."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MAB(nn.Module):
    """Attention between two sets, heads laid beside each other in the batch, as the authors do (arXiv:1810.00825)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.fc_q, self.fc_k, self.fc_v, self.fc_o = (nn.Linear(width, width) for _ in range(4))
        self.ln0, self.ln1 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        q, k, v = self.fc_q(q), self.fc_k(k), self.fc_v(k)
        part = self.width // self.heads
        qs, ks, vs = (torch.cat(x.split(part, 2), 0) for x in (q, k, v))
        a = torch.softmax(qs.bmm(ks.transpose(1, 2)) / math.sqrt(self.width), 2)
        o = self.ln0(torch.cat((qs + a.bmm(vs)).split(q.size(0), 0), 2))
        return self.ln1(o + F.relu(self.fc_o(o)))


class SetTransformer(nn.Module):
    """Attention by way of learned points, pooled by a learned question."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(3, width), nn.Linear(width, 5)
        self.induced, self.seed = nn.Parameter(torch.randn(1, 5, width)), nn.Parameter(torch.randn(1, 1, width))
        self.mab0, self.mab1, self.pma = MAB(width, 4), MAB(width, 4), MAB(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        x = self.mab1(x, self.mab0(self.induced.repeat(x.size(0), 1, 1), x))
        return self.out(self.pma(self.seed.repeat(x.size(0), 1, 1), x)).squeeze(1)


class Dueling(nn.Module):
    """What a state is worth, and how much better each action is than the mean one (arXiv:1511.06581)."""

    def __init__(self, actions: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 12, 4, 2),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(400, 24),
            nn.ReLU(),
        )
        self.value = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 1))
        self.advantage = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, actions))
        self.actor, self.critic = nn.Linear(24, actions), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.features(x / 255)
        value, advantage = self.value(x), self.advantage(x)
        q = value + (advantage - advantage.mean(dim=1, keepdim=True))
        return q, F.log_softmax(self.actor(x), -1), self.critic(x).squeeze(-1)


class PointerGenerator(nn.Module):
    """A decoder that may copy from what it reads, with a sum of its attentions (arXiv:1704.04368)."""

    def __init__(self, vocabulary: int = 40) -> None:
        super().__init__()
        self.embedding, self.vocabulary = nn.Embedding(vocabulary, 16), vocabulary
        self.encoder, self.reduce_h, self.reduce_c = (
            nn.LSTM(16, 12, batch_first=True, bidirectional=True), nn.Linear(24, 20), nn.Linear(24, 20),
        )  # fmt: skip
        self.decoder, self.feature, self.state = nn.LSTMCell(16, 20), nn.Linear(24, 18, bias=False), nn.Linear(40, 18)
        self.coverage, self.v = nn.Linear(1, 18, bias=False), nn.Linear(18, 1, bias=False)
        self.p_gen, self.out1, self.out2 = nn.Linear(24 + 40 + 16, 1), nn.Linear(44, 20), nn.Linear(20, vocabulary)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, (h, c) = self.encoder(self.embedding(source))
        h = F.relu(self.reduce_h(torch.cat([h[0], h[1]], 1)))
        c = F.relu(self.reduce_c(torch.cat([c[0], c[1]], 1)))
        features, covered, made = self.feature(memory), torch.zeros_like(source, dtype=torch.float), []
        for t in range(target.size(1)):
            x = self.embedding(target[:, t])
            h, c = self.decoder(x, (h, c))
            state = torch.cat((h, c), 1)
            e = features + self.state(state).unsqueeze(1) + self.coverage(covered.unsqueeze(-1))
            attention = F.softmax(self.v(torch.tanh(e)).squeeze(-1), dim=1)
            context = torch.bmm(attention.unsqueeze(1), memory).squeeze(1)
            covered = covered + attention
            p_gen = torch.sigmoid(self.p_gen(torch.cat((context, state, x), 1)))
            vocabulary = F.softmax(self.out2(self.out1(torch.cat((h, context), 1))), dim=1)
            made.append((p_gen * vocabulary).scatter_add(1, source, (1 - p_gen) * attention))
        return torch.stack(made, 1)


class PointerNet(nn.Module):
    """Each step points at an entry of the input (arXiv:1506.03134)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encoder, self.decoder = (
            nn.Linear(2, 12),
            nn.LSTM(12, 16, batch_first=True),
            nn.LSTMCell(12, 16),
        )
        self.w1, self.w2, self.v = (
            nn.Linear(16, 14, bias=False),
            nn.Linear(16, 14, bias=False),
            nn.Parameter(torch.randn(14)),
        )
        self.start = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        memory, (h, c) = self.encoder(x)
        h, c, step, found = h[0], c[0], self.start.expand(x.size(0), -1), []
        for _ in range(x.size(1)):
            h, c = self.decoder(step, (h, c))
            scores = torch.tanh(self.w1(memory) + self.w2(h).unsqueeze(1)) @ self.v
            found.append(F.log_softmax(scores, dim=1))
            chosen = found[-1].argmax(1).view(-1, 1, 1).expand(-1, 1, x.size(2))
            step = x.gather(1, chosen).squeeze(1)
        return torch.stack(found, 1)


def squash(x: Tensor, dim: int = -1) -> Tensor:
    norm = (x**2).sum(dim=dim, keepdim=True)
    return norm / (1 + norm) * x / (norm.sqrt() + 1e-8)


class CapsNet(nn.Module):
    """Capsules that agree on what they see, routed three times (arXiv:1710.09829)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.primary = nn.Conv2d(3, 16, 5), nn.Conv2d(16, 24, 5, 2)
        self.W = nn.Parameter(0.3 * torch.randn(1, 4 * 16, 5, 8, 6))

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        u = squash(self.primary(F.relu(self.conv(x))).view(n, 4, 6, -1).transpose(2, 3).reshape(n, -1, 6))
        hat = torch.matmul(self.W, u[:, :, None, :, None]).squeeze(-1)
        b = torch.zeros(n, u.size(1), 5, 1)
        for step in range(3):
            c = F.softmax(b, dim=2)
            v = squash((c * hat).sum(dim=1))
            if step < 2:
                b = b + (hat * v.unsqueeze(1)).sum(-1, keepdim=True)
        return v.norm(dim=-1)


class CBAM(nn.Module):
    """Gates for channels by two pools and one MLP, gates for places by mean and maximum (arXiv:1807.06521)."""

    def __init__(self, width: int = 20) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv, self.mlp = (
            nn.Conv2d(width, width, 3, padding=1),
            nn.Sequential(nn.Conv2d(width, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, width, 1, bias=False)),
        )
        self.spatial, self.head = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        y = self.conv(x)
        y = y * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(y, 1)) + self.mlp(F.adaptive_max_pool2d(y, 1)))
        places = torch.cat([torch.mean(y, dim=1, keepdim=True), torch.max(y, dim=1, keepdim=True)[0]], dim=1)
        y = y * torch.sigmoid(self.spatial(places))
        return self.head(F.relu(x + y).mean((2, 3)))


class MemoryNet(nn.Module):
    """A memory read by content, key and value tables, several hops (MemN2N, arXiv:1503.08895)."""

    def __init__(self, vocabulary: int = 40, width: int = 16, hops: int = 3) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, width, padding_idx=0) for _ in range(hops + 1))
        self.register_buffer("encoding", torch.rand(6, width))

    def forward(self, story: Tensor, query: Tensor) -> Tensor:
        u = (self.tables[0](query) * self.encoding).sum(1)
        for hop in range(len(self.tables) - 1):
            keys = (self.tables[hop](story) * self.encoding).sum(2)
            values = (self.tables[hop + 1](story) * self.encoding).sum(2)
            p = F.softmax((keys * u.unsqueeze(1)).sum(2), -1)
            u = u + (values * p.unsqueeze(2)).sum(1)
        return F.log_softmax(u @ self.tables[-1].weight.t(), -1)
