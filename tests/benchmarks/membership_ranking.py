"""Whether cheap membership attacks rank models as LiRA does: ``python -m tests.benchmarks.membership_ranking``.

A small convolutional net learns 1,500 CIFAR-10 images of 16 × 16 pixels by heart. It is pruned by uniform ratios, and
recalibrated, repaired or trained on; every version is attacked by its losses, its entropies and its labels alone, and
by LiRA with shadow models of the dense architecture. A table of Spearman's rank correlations over the versions, each
with a 95 % bootstrap interval over them, and what an attack takes per model. CIFAR-10 is found through AUTOPRUNE_DATA.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, Measured, Split, Strategy
from autoprune.testing import Bench
from autoprune_evaluators import Accuracy, MembershipInference

from .peers.run import environment

SIDE = 1500
"""Members, and others."""
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
RECOVERIES: Mapping[str, Mapping[str, object]] = {
    "recalibrated": {"use": "bn-recalibration"},
    "repaired": {"use": "repair"},
    "fine-tuned, 1 epoch": {"use": "fine-tune", "epochs": 1, "batch_size": 64},
    "fine-tuned, 10 epochs": {"use": "fine-tune", "epochs": 10, "batch_size": 64},
}
EPOCHS = 30
FPR = 0.01
RESAMPLES = 2000


def data() -> Data:
    """Images in [0, 1], (N, 3, 16, 16): members, and as many others."""
    folder = Path(os.environ.get("AUTOPRUNE_DATA", Path(__file__).parents[2] / ".." / "shared")) / "data" / "cifar10"
    rows = next(pq.ParquetFile(folder / "train.parquet").iter_batches(2 * SIDE)).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    images = functional.avg_pool2d(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, 2)
    classes = torch.tensor([row["label"] for row in rows])
    train, other = (Split.of_tensors(images[part], classes[part]) for part in (slice(SIDE), slice(SIDE, None)))
    return Data(train, other, other, classes=10, bounds=(0.0, 1.0))


def network() -> nn.Sequential:
    """(N, 3, 16, 16) to (N, 10)."""

    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        norm = nn.BatchNorm2d(outputs)
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2)]

    hidden = [nn.Flatten(), nn.Linear(48 * 4, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*conv(3, 16), *conv(16, 32), *conv(32, 48), *hidden)


def learnt(found: Data) -> nn.Sequential:
    """A net that knows the members by heart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = network().train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.005)
        generator = torch.Generator().manual_seed(0)
        for epoch in range(EPOCHS):
            for settings in optimizer.param_groups:
                settings["lr"] = 0.005 * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
            for inputs, targets in found.train.batches(64, generator=generator):
                optimizer.zero_grad()
                functional.cross_entropy(net(inputs.first), targets).backward()
                optimizer.step()
    optimizer.zero_grad()
    return net.eval()


def versions(bench: Bench) -> Iterator[tuple[str, nn.Module]]:
    """The dense net, and what is made of it."""
    host = PluginHost()
    yield "dense", bench.cut({})
    for name, recovery in RECOVERIES.items():
        strategy = Strategy.model_validate({"use": "one-shot", "recover": recovery}, context=host)
        for ratio in RATIOS:
            yield f"{ratio:.0%} of each layer, {name}", bench.prune(strategy, bench.uniform(ratio)).network


def attacks(shadows: int) -> dict[str, MembershipInference]:
    """What is compared; the last one is what the others are compared with."""
    every = MembershipInference(fpr=FPR, samples=None, shadows=shadows, epochs=EPOCHS, batch_size=64)
    names = {"loss": "loss", "modified entropy": "modified-entropy", "labels alone": "label-only", "LiRA": "lira"}
    return {name: every.model_copy(update={"attack": attack}) for name, attack in names.items()}


def correlation(one: Sequence[float], other: Sequence[float]) -> str:
    """Spearman's, with its interval."""
    x, y = np.array(one), np.array(other)
    random = np.random.default_rng(0)
    picks = random.integers(len(x), size=(RESAMPLES, len(x)))
    drawn = [spearmanr(x[pick], y[pick]).statistic for pick in picks if len(set(x[pick])) > 1 and len(set(y[pick])) > 1]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{spearmanr(x, y).statistic:.2f} ({low:.2f} – {high:.2f})"


def page(shadows: int) -> Iterator[str]:
    """Measure, and tell in markdown."""
    found = data()
    bench = Bench(learnt(found), found)
    compared = attacks(shadows)
    start = perf_counter()
    bench.measure(compared["LiRA"])
    trained_s = perf_counter() - start
    rows: list[tuple[str, float, dict[str, Mapping[str, Measured]]]] = []
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for name, net in versions(bench):
        told: dict[str, Mapping[str, Measured]] = {}
        for attack, evaluator in compared.items():
            start = perf_counter()
            told[attack] = bench.measure(evaluator, network=net)
            seconds[attack].append(perf_counter() - start)
        rows.append((name, bench.measure(Accuracy(), network=net)["accuracy"].value, told))

    def column(attack: str, metric: str) -> list[float]:
        return [told[attack][metric].value for _, _, told in rows]

    yield "# Whether cheap membership attacks rank models as LiRA does"
    yield (
        f"`python -m tests.benchmarks.membership_ranking --shadows {shadows}`, one thread of {environment()['cpu']},"
        f" torch {torch.__version__}, autoprune {version('autoprune')}. {len(rows)} versions of a net of"
        f" {sum(p.numel() for p in bench.network.parameters()):,} parameters that knows {SIDE:,} images by heart, as"
        f" many others beside; LiRA with {shadows} shadow models, which took {trained_s:.0f} s once. Spearman's rank"
        " correlation over the versions, with a 95 % bootstrap interval over them."
    )
    titles = ["attack", "its area with LiRA's", "its members at 1 % FPR with LiRA's", "seconds per model"]
    table = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for attack in compared:
        area = correlation(column(attack, "membership_auc"), column("LiRA", "membership_auc"))
        rate = correlation(column(attack, "membership_tpr"), column("LiRA", "membership_tpr"))
        table.append(f"| {attack} | {area} | {rate} | {median(seconds[attack]):.2f} |")
    tails = correlation(column("loss", "membership_tnr"), column("LiRA", "membership_tpr"))
    table.append(f"| loss, `membership_tnr` | | {tails} | |")
    yield "\n".join(table)
    yield "## The versions"
    titles = ["version", "accuracy", *(f"{attack}: area" for attack in compared), "LiRA: 1 % FPR"]
    table = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, accuracy, told in rows:
        areas = " | ".join(f"{told[attack]['membership_auc'].value:.3f}" for attack in compared)
        table.append(f"| {name} | {accuracy:.3f} | {areas} | {told['LiRA']['membership_tpr'].value:.3f} |")
    yield "\n".join(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--output", type=Path, required=True, help="the markdown page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.write_text("\n\n".join(page(options.shadows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
