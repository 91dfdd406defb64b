"""Nets over graphs, experts, tables of users and items, sets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GCN(nn.Module):
    """Means over neighbours, as a matrix that is normed here (arXiv:1609.02907)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.out = nn.Linear(8, 20, bias=False), nn.Linear(20, 16, bias=False), nn.Linear(16, 4)
        self.bias1, self.bias2 = nn.Parameter(torch.zeros(20)), nn.Parameter(torch.zeros(16))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        a = (adjacency > 0.7).float() + torch.eye(adjacency.size(-1))
        d = a.sum(-1).pow(-0.5)
        a = d.unsqueeze(-1) * a * d.unsqueeze(-2)
        x = F.relu(torch.bmm(a, self.conv1(x)) + self.bias1)
        x = F.relu(torch.bmm(a, self.conv2(F.dropout(x, 0.3, self.training))) + self.bias2)
        return self.out(x.mean(1))


class GATLayer(nn.Module):
    """One head of attention over neighbours, as the authors write it (arXiv:1710.10903)."""

    def __init__(self, i: int, o: int, concat: bool = True) -> None:
        super().__init__()
        self.o, self.concat = o, concat
        self.W, self.a = nn.Parameter(torch.randn(i, o) * i**-0.5), nn.Parameter(torch.randn(2 * o, 1) * o**-0.5)

    def forward(self, h: Tensor, adjacency: Tensor) -> Tensor:
        wh = torch.matmul(h, self.W)
        one, two = torch.matmul(wh, self.a[: self.o, :]), torch.matmul(wh, self.a[self.o :, :])
        e = F.leaky_relu(one + two.transpose(-1, -2), 0.2)
        attention = F.softmax(torch.where(adjacency > 0.3, e, -9e15 * torch.ones_like(e)), dim=-1)
        new = torch.matmul(F.dropout(attention, 0.3, self.training), wh)
        return F.elu(new) if self.concat else new


class GAT(nn.Module):
    """Heads beside each other, then one that decides."""

    def __init__(self) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(GATLayer(8, 10) for _ in range(3))
        self.out_att = GATLayer(30, 4, concat=False)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = torch.cat([att(x, adjacency) for att in self.attentions], dim=-1)
        return F.log_softmax(F.elu(self.out_att(x, adjacency)), dim=-1)


class SparseGAT(nn.Module):
    """Attention over edge lists: heads in a dimension, a softmax by scattering (as PyTorch Geometric has it)."""

    def __init__(self, heads: int = 3, width: int = 8) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.lin, self.out = nn.Linear(8, heads * width, bias=False), nn.Linear(heads * width, 4)
        self.att_src, self.att_dst = (nn.Parameter(torch.randn(1, heads, width)) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(heads * width))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        src, dst = edges[0], edges[1]
        h = self.lin(x).view(-1, self.heads, self.width)
        a_src, a_dst = (h * self.att_src).sum(-1), (h * self.att_dst).sum(-1)
        alpha = F.leaky_relu(a_src.index_select(0, src) + a_dst.index_select(0, dst), 0.2).exp()
        total = torch.zeros_like(a_src).index_add_(0, dst, alpha)
        alpha = alpha / (total.index_select(0, dst) + 1e-16)
        sent = h.index_select(0, src) * alpha.unsqueeze(-1)
        new = torch.zeros_like(h).index_add_(0, dst, sent)
        return self.out(F.elu(new.view(-1, self.heads * self.width) + self.bias))


class GIN(nn.Module):
    """Sums over edges, an MLP; sums over each graph's nodes of every layer (arXiv:1810.00826)."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(i, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16)) for i in (8, 16)
        )
        self.norms, self.heads = (
            nn.ModuleList(nn.BatchNorm1d(16) for _ in range(2)),
            nn.ModuleList(nn.Linear(i, 4) for i in (8, 16, 16)),
        )

    def forward(self, x: Tensor, edges: Tensor, batch: Tensor, sizes: Tensor) -> Tensor:
        hidden = [x]
        for eps, mlp, norm in zip(self.eps, self.mlps, self.norms, strict=True):
            sent = torch.zeros_like(x).scatter_add(0, edges[1][:, None].expand(-1, x.shape[1]), x[edges[0]])
            x = F.relu(norm(mlp((1 + eps) * x + sent)))
            hidden.append(x)
        score = 0
        for h, head in zip(hidden, self.heads, strict=True):
            pooled = torch.zeros(sizes.shape[0], h.shape[1]).index_add(0, batch, h)
            score = score + head(pooled)
        return score


def expert(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class SoftExperts(nn.Module):
    """Listed experts, stacked and weighted by a gate."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.inp, self.gate, self.out = nn.Linear(8, width), nn.Linear(width, 3), nn.Linear(width, 4)
        self.experts = nn.ModuleList(expert(width, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inp(x))
        gates = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([one(x) for one in self.experts], dim=1)
        return self.out(torch.sum(gates.unsqueeze(-1) * outputs, dim=1))


class TopExperts(nn.Module):
    """Listed experts, the two best for every token by masks (Mixtral, arXiv:2401.04088)."""

    def __init__(self, width: int = 12, experts: int = 4) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(40, width), nn.LayerNorm(width), nn.Linear(width, 5)
        self.gate, self.top = nn.Linear(width, experts, bias=False), 2
        self.w1, self.w3 = (nn.ModuleList(nn.Linear(width, 20, bias=False) for _ in range(experts)) for _ in range(2))
        self.w2 = nn.ModuleList(nn.Linear(20, width, bias=False) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        n, t, width = x.shape
        flat = self.norm(x).view(-1, width)
        weights = F.softmax(self.gate(flat), dim=1, dtype=torch.float)
        weights, selected = torch.topk(weights, self.top, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        final = torch.zeros_like(flat)
        for i in range(len(self.w1)):
            weight = (weights * (selected == i)).sum(-1, keepdim=True)
            final = final + weight * self.w2[i](F.silu(self.w1[i](flat)) * self.w3[i](flat))
        return self.head(x + final.view(n, t, width))


class Switch(nn.Module):
    """Stacked experts with places for so many tokens, sent there and back by einsum (GShard, arXiv:2006.16668)."""

    def __init__(self, width: int = 12, experts: int = 3, hidden: int = 20) -> None:
        super().__init__()
        self.experts, self.capacity = experts, 4
        self.embedding, self.norm, self.head = nn.Embedding(40, width), nn.LayerNorm(width), nn.Linear(width, 5)
        self.w_gating = nn.Parameter(torch.randn(width, experts))
        self.w1 = nn.Parameter(torch.randn(experts, width, hidden) * width**-0.5)
        self.w2 = nn.Parameter(torch.randn(experts, hidden, width) * hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        z = self.norm(y)
        gates = torch.einsum("bnd,de->bne", z, self.w_gating).softmax(-1)
        gate, index = gates.max(-1)
        mask = F.one_hot(index, self.experts).float()
        place = ((mask.cumsum(dim=-2) - mask) * mask).sum(-1).long()
        fits = (place < self.capacity).float()
        combine = (gate * fits)[..., None, None] * mask[..., None]
        combine = combine * F.one_hot(place.clamp(max=self.capacity - 1), self.capacity).float()[..., None, :]
        dispatch = combine.bool().to(combine)
        sent = torch.einsum("bnd,bnec->ebcd", z, dispatch)
        n = sent.shape[1]
        sent = sent.reshape(self.experts, n * self.capacity, -1)
        made = torch.einsum("end,edh->enh", sent, self.w1).relu()
        made = torch.einsum("enh,ehd->end", made, self.w2).reshape(self.experts, n, self.capacity, -1)
        return self.head(y + torch.einsum("ebcd,bnec->bnd", made, combine))


class DLRM(nn.Module):
    """Numbers through an MLP, categories through tables, all pairs' dots beside (arXiv:1906.00091)."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.bot_l = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, width), nn.ReLU())
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(20, width, mode="sum") for _ in range(3))
        self.top_l = nn.Sequential(nn.Linear(width + 6, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bot_l(dense)
        ly = [table(sparse[:, i : i + 1]) for i, table in enumerate(self.emb_l)]
        n, d = x.shape
        t = torch.cat([x, *ly], dim=1).view((n, -1, d))
        z = torch.bmm(t, torch.transpose(t, 1, 2))
        _, ni, nj = z.shape
        li = torch.tensor([i for i in range(ni) for j in range(i)])
        lj = torch.tensor([j for i in range(nj) for j in range(i)])
        return self.top_l(torch.cat([x, z[:, li, lj]], dim=1))


class DeepFM(nn.Module):
    """A factorization machine and an MLP on one table of all fields (arXiv:1703.04247)."""

    def __init__(self, fields: tuple[int, ...] = (10, 20, 8, 5), width: int = 10) -> None:
        super().__init__()
        self.embed_output_dim = len(fields) * width
        self.register_buffer("offsets", torch.tensor([0, *torch.tensor(fields).cumsum(0)[:-1].tolist()]))
        self.fc, self.embedding = nn.Embedding(sum(fields), 1), nn.Embedding(sum(fields), width)
        self.bias = nn.Parameter(torch.zeros((1,)))
        self.mlp = nn.Sequential(
            nn.Linear(self.embed_output_dim, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.offsets.unsqueeze(0)
        embed = self.embedding(x)
        fm = 0.5 * torch.sum(torch.sum(embed, dim=1) ** 2 - torch.sum(embed**2, dim=1), dim=1, keepdim=True)
        linear = torch.sum(self.fc(x), dim=1) + self.bias
        return torch.sigmoid((linear + fm + self.mlp(embed.view(-1, self.embed_output_dim))).squeeze(1))


class NCF(nn.Module):
    """A product of two tables' rows beside an MLP on two others (NeuMF, arXiv:1708.05031)."""

    def __init__(self) -> None:
        super().__init__()
        self.user_gmf, self.item_gmf = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.user_mlp, self.item_mlp = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.mlp = nn.Sequential(nn.Dropout(0.1), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.predict = nn.Linear(16, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        gmf = self.user_gmf(user) * self.item_gmf(item)
        mlp = self.mlp(torch.cat((self.user_mlp(user), self.item_mlp(item)), -1))
        return self.predict(torch.cat((gmf, mlp), -1)).view(-1)


class TwoTower(nn.Module):
    """Users with what they saw, items with what they are: a cosine over a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.features = nn.Embedding(40, 16, padding_idx=0), nn.Linear(5, 8)
        self.user = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12))
        self.item = nn.Sequential(nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 12))
        self.temperature = nn.Parameter(torch.tensor(0.3))

    def forward(self, seen: Tensor, item: Tensor, features: Tensor) -> Tensor:
        mask = (seen != 0).unsqueeze(-1).float()
        history = (self.items(seen) * mask).sum(1) / mask.sum(1).clamp(min=1)
        user = F.normalize(self.user(history), dim=-1)
        item = F.normalize(self.item(torch.cat([self.items(item), F.relu(self.features(features))], -1)), dim=-1)
        return (user * item).sum(-1) / self.temperature
