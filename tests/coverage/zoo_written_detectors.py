"""Nets that find things: boxes over a pyramid, boxes by queries, points, flow between two images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoprune.structure.nets import cbr


class Pyramid(nn.Module):
    """Features of three strides, each with what the coarser ones know (FPN, arXiv:1612.03144)."""

    def __init__(self, widths: list[int], out: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Conv2d(width, out, 1) for width in widths)
        self.layer_blocks = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in widths)
        self.p6, self.p7 = nn.Conv2d(widths[-1], out, 3, 2, 1), nn.Conv2d(out, out, 3, 2, 1)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        last = self.inner_blocks[-1](features[-1])
        results = [self.layer_blocks[-1](last)]
        for i in range(len(features) - 2, -1, -1):
            lateral = self.inner_blocks[i](features[i])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            results.insert(0, self.layer_blocks[i](last))
        p6 = self.p6(features[-1])
        return [*results, p6, self.p7(F.relu(p6))]


class RetinaNet(nn.Module):
    """Anchors on a feature pyramid, two heads shared over its levels (arXiv:1708.02002), as torchvision has it."""

    def __init__(self, classes: int = 5, anchors: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.stem = cbr(3, 12, stride=2)
        self.stages = nn.ModuleList([cbr(12, 16, stride=2), cbr(16, 24, stride=2), cbr(24, 32, stride=2)])
        self.fpn = Pyramid([16, 24, 32], 20)
        self.cls_conv, self.box_conv = (
            nn.Sequential(*(layer for _ in range(2) for layer in (nn.Conv2d(20, 20, 3, padding=1), nn.ReLU())))
            for _ in range(2)
        )
        self.cls_logits = nn.Conv2d(20, anchors * classes, 3, padding=1)
        self.bbox_reg = nn.Conv2d(20, anchors * 4, 3, padding=1)

    @staticmethod
    def _flat(x: Tensor, entries: int) -> Tensor:
        n, _, h, w = x.shape
        return x.view(n, -1, entries, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, entries)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        levels = self.fpn(features)
        return {
            "cls_logits": torch.cat([self._flat(self.cls_logits(self.cls_conv(y)), self.classes) for y in levels], 1),
            "bbox_regression": torch.cat([self._flat(self.bbox_reg(self.box_conv(y)), 4) for y in levels], 1),
        }


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, i: int, o: int, k: int = 1, s: int = 1) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class C2f(nn.Module):
    """Cross-stage partial bottleneck with two convolutions; every bottleneck's output is read."""

    def __init__(self, i: int, o: int, n: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        self.c, self.add = o // 2, shortcut
        self.cv1, self.cv2 = Conv(i, 2 * self.c), Conv((2 + n) * self.c, o)
        self.m = nn.ModuleList(nn.Sequential(Conv(self.c, self.c, 3), Conv(self.c, self.c, 3)) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(y[-1] + m(y[-1]) if self.add else m(y[-1]))
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = Conv(i, i // 2), Conv(i * 2, o), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        return self.cv2(torch.cat(y, 1))


class DFL(nn.Module):
    """The mean of a distribution over distances (arXiv:2006.04388)."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        b, _, a = x.shape
        return self.conv(x.view(b, 4, self.bins, a).transpose(2, 1).softmax(1)).view(b, 4, a)


class Yolo(nn.Module):
    """C2f stages, SPPF, a path up and a path down, decoupled heads; decoded boxes in ``eval()`` (YOLOv8)."""

    def __init__(self, classes: int = 4, bins: int = 8) -> None:
        super().__init__()
        self.classes, self.bins, self.strides = classes, bins, (4, 8)
        self.stem, self.down1, self.down2 = Conv(3, 8, 3, 2), Conv(8, 16, 3, 2), Conv(16, 32, 3, 2)
        self.c1, self.c2, self.sppf = C2f(16, 16, 1, True), C2f(32, 32, 2, True), SPPF(32, 32)
        self.up, self.fuse1 = nn.Upsample(scale_factor=2), C2f(48, 16)
        self.down3, self.fuse2 = Conv(16, 16, 3, 2), C2f(48, 32)
        self.cv2 = nn.ModuleList(nn.Sequential(Conv(c, 16, 3), nn.Conv2d(16, 4 * bins, 1)) for c in (16, 32))
        self.cv3 = nn.ModuleList(nn.Sequential(Conv(c, 12, 3), nn.Conv2d(12, classes, 1)) for c in (16, 32))
        self.dfl = DFL(bins)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        p1 = self.c1(self.down1(self.stem(x)))
        p2 = self.sppf(self.c2(self.down2(p1)))
        n1 = self.fuse1(torch.cat([self.up(p2), p1], 1))
        n2 = self.fuse2(torch.cat([self.down3(n1), p2], 1))
        y = [torch.cat((self.cv2[i](f), self.cv3[i](f)), 1) for i, f in enumerate((n1, n2))]
        if self.training:
            return y
        points, strides = self.anchors(y)
        box, cls = torch.cat([f.view(len(x), self.classes + 4 * self.bins, -1) for f in y], 2).split(
            (4 * self.bins, self.classes), 1
        )
        lt, rb = self.dfl(box).chunk(2, 1)
        start, end = points - lt, points + rb
        return torch.cat((torch.cat(((start + end) / 2, end - start), 1) * strides, cls.sigmoid()), 1)

    def anchors(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        points, strides = [], []
        for f, stride in zip(features, self.strides, strict=True):
            _, _, h, w = f.shape
            sy, sx = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack((sx, sy), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), float(stride)))
        return torch.cat(points).transpose(0, 1).unsqueeze(0), torch.cat(strides).transpose(0, 1)


class Detr(nn.Module):
    """A backbone, an encoder, a decoder from learned queries (arXiv:2005.12872), the paper's fifty lines."""

    def __init__(self, width: int = 24, classes: int = 5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(cbr(3, 12, stride=2), cbr(12, 20, stride=2))
        self.conv = nn.Conv2d(20, width, 1)
        self.transformer = nn.Transformer(width, 4, 1, 2, 32, 0.0)
        self.linear_class, self.linear_bbox = nn.Linear(width, classes), nn.Linear(width, 4)
        self.query_pos = nn.Parameter(torch.rand(6, width))
        self.row_embed, self.col_embed = (nn.Parameter(torch.rand(8, width // 2)) for _ in range(2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.conv(self.backbone(x))
        height, width = h.shape[-2:]
        pos = torch.cat(
            [
                self.col_embed[:width].unsqueeze(0).repeat(height, 1, 1),
                self.row_embed[:height].unsqueeze(1).repeat(1, width, 1),
            ],
            dim=-1,
        ).flatten(0, 1).unsqueeze(1)  # fmt: skip
        queries = self.query_pos.unsqueeze(1).repeat(1, len(x), 1)
        h = self.transformer(pos + 0.1 * h.flatten(2).permute(2, 0, 1), queries).transpose(0, 1)
        return {"pred_logits": self.linear_class(h), "pred_boxes": self.linear_bbox(h).sigmoid()}


class TNet(nn.Module):
    """A matrix that turns points or their features."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.conv1, self.conv2 = nn.Conv1d(k, 16, 1), nn.Conv1d(16, 24, 1)
        self.fc1, self.fc2 = nn.Linear(24, 16), nn.Linear(16, k * k)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(16), nn.BatchNorm1d(24), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = torch.max(x, 2, keepdim=True)[0].view(-1, 24)
        x = self.fc2(F.relu(self.bn3(self.fc1(x))))
        return (x + torch.eye(self.k).flatten().view(1, self.k * self.k).repeat(n, 1)).view(-1, self.k, self.k)


class PointNet(nn.Module):
    """Points one by one, a maximum over them; two matrices turn points and features (arXiv:1612.00593)."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.stn, self.fstn = TNet(3), TNet(12)
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 12, 1), nn.Conv1d(12, 24, 1), nn.Conv1d(24, 40, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(12), nn.BatchNorm1d(24), nn.BatchNorm1d(40)
        self.fc1, self.dropout, self.fc2 = nn.Linear(40, 24), nn.Dropout(0.3), nn.Linear(24, classes)
        self.bn4 = nn.BatchNorm1d(24)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.bmm(x.transpose(2, 1), self.stn(x)).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        turn = self.fstn(x)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        x = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x)))))
        x = torch.max(x, 2, keepdim=True)[0].view(-1, 40)
        return F.log_softmax(self.fc2(F.relu(self.bn4(self.dropout(self.fc1(x))))), dim=1), turn


class EdgeConv(nn.Module):
    """Every point with its nearest ones in the space of features (DGCNN, arXiv:1801.07829)."""

    def __init__(self, neighbours: int = 4, classes: int = 6) -> None:
        super().__init__()
        self.k = neighbours
        self.conv1 = nn.Sequential(nn.Conv2d(6, 16, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2))
        self.conv2 = nn.Sequential(nn.Conv2d(32, 24, 1, bias=False), nn.BatchNorm2d(24), nn.LeakyReLU(0.2))
        self.conv3 = nn.Sequential(nn.Conv1d(40, 32, 1, bias=False), nn.BatchNorm1d(32), nn.LeakyReLU(0.2))
        self.linear = nn.Linear(64, classes)

    def neighbours(self, x: Tensor) -> Tensor:
        n, width, points = x.size(0), x.size(1), x.size(2)
        inner = -2 * torch.matmul(x.transpose(2, 1), x)
        xx = torch.sum(x**2, dim=1, keepdim=True)
        index = (-xx - inner - xx.transpose(2, 1)).topk(k=self.k, dim=-1)[1]
        index = (index + torch.arange(0, n).view(-1, 1, 1) * points).view(-1)
        x = x.transpose(2, 1).contiguous()
        near = x.view(n * points, -1)[index, :].view(n, points, self.k, width)
        x = x.view(n, points, 1, width).repeat(1, 1, self.k, 1)
        return torch.cat((near - x, x), dim=3).permute(0, 3, 1, 2).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(self.neighbours(x)).max(dim=-1, keepdim=False)[0]
        x2 = self.conv2(self.neighbours(x1)).max(dim=-1, keepdim=False)[0]
        x = self.conv3(torch.cat((x1, x2), dim=1))
        x = torch.cat((F.adaptive_max_pool1d(x, 1).view(len(x), -1), F.adaptive_avg_pool1d(x, 1).view(len(x), -1)), 1)
        return self.linear(x)


class Flow(nn.Module):
    """All pairs of two images' features, looked up around a flow that a recurrent net corrects (RAFT, 2003.12039)."""

    def __init__(self, radius: int = 1) -> None:
        super().__init__()
        self.radius, self.hidden, self.context = radius, 16, 12
        self.fnet = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.InstanceNorm2d(16), nn.ReLU(), nn.Conv2d(16, 20, 1))
        self.cnet = nn.Sequential(cbr(3, 16, stride=2), nn.Conv2d(16, 28, 1))
        self.corr, self.flow = nn.Conv2d((2 * radius + 1) ** 2, 16, 1), nn.Conv2d(2, 8, 3, padding=1)
        self.convz, self.convr, self.convq = (nn.Conv2d(16 + 24 + 12, 16, 3, padding=1) for _ in range(3))
        self.head = nn.Sequential(nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 2, 3, padding=1))

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        a, b = self.fnet(first), self.fnet(second)
        n, width, h, w = a.shape
        corr = torch.matmul(a.view(n, width, h * w).transpose(1, 2), b.view(n, width, h * w)) / width**0.5
        corr = corr.reshape(n * h * w, 1, h, w)
        net, inp = torch.split(self.cnet(first), [self.hidden, self.context], dim=1)
        net, inp = torch.tanh(net), torch.relu(inp)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        start = torch.stack([xs, ys], 0).float()[None].repeat(n, 1, 1, 1)
        d = torch.linspace(-self.radius, self.radius, 2 * self.radius + 1)
        delta = torch.stack(torch.meshgrid(d, d, indexing="ij"), -1)[None]
        coords, flows = start, []
        for _ in range(2):
            grid = coords.detach().permute(0, 2, 3, 1).reshape(n * h * w, 1, 1, 2) + delta
            grid = 2 * grid / torch.tensor([w - 1, h - 1]) - 1
            looked = F.grid_sample(corr, grid, align_corners=True).view(n, h, w, -1).permute(0, 3, 1, 2)
            motion = torch.cat([F.relu(self.corr(looked)), F.relu(self.flow(coords - start))], 1)
            x = torch.cat([inp, motion], 1)
            hx = torch.cat([net, x], 1)
            z, r = torch.sigmoid(self.convz(hx)), torch.sigmoid(self.convr(hx))
            net = (1 - z) * net + z * torch.tanh(self.convq(torch.cat([r * net, x], 1)))
            coords = coords + self.head(net)
            flows.append(coords - start)
        return flows
