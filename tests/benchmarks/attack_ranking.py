"""Whether a search's attack ranks models as a strong one does: ``python -m tests.benchmarks.attack_ranking``.

ResNet-20 on CIFAR-10 is cut by uniform ratios, by two scorers, and recalibrated, repaired or trained on; every version
is attacked by what a search can afford, on validation images, and by the Auto-PGD of AutoAttack (arXiv:2003.01690) as
ART has it, on test images. Spearman's rank correlations over the versions, with 95 % bootstrap intervals over them, and
CPU seconds per model. The data are looked for in ``AUTOPRUNE_DATA`` (default: ``../shared``).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Evaluator, Normalization, Scorer, SourceContext, Strategy
from autoprune.testing import Bench
from autoprune_evaluators import Accuracy, Fgsm, Pgd
from autoprune_sources import Parquet

from .attacks import EPSILON, MEAN, ROOT, SHARED, STD
from .membership_ranking import correlation
from .peers.run import environment

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SCORERS = ("l1", "random")
RECOVERIES: Mapping[str, Sequence[Mapping[str, object]]] = {
    "recalibrated": [{"use": "bn-recalibration"}],
    "repaired": [{"use": "repair"}],
    "repaired, fine-tuned": [{"use": "repair"}, {"use": "fine-tune", "epochs": 0.04, "lr": 0.005}],
}
"""Fine-tuning is for the first scorer's cuts alone: it takes long."""
STRONG, STEPS = 128, 20
"""Images and steps of the strong attack."""
CHEAP: Mapping[str, Evaluator] = {
    "accuracy, 1,000 images": Accuracy(samples=1000),
    "FGSM, 256 images": Fgsm(epsilon=EPSILON, samples=256),
    "PGD-3, 64 images": Pgd(epsilon=EPSILON, steps=3, samples=64),
    "PGD-10, 64 images": Pgd(epsilon=EPSILON, samples=64),
    "PGD-10, 256 images": Pgd(epsilon=EPSILON),
}


def bench() -> Bench:
    """The trained net and its data."""
    sys.path.insert(0, str(ROOT / "search_spaces/examples"))
    from cifar_resnet import resnet20

    network: nn.Module = resnet20()
    network.load_state_dict(load_file(SHARED / "models/resnet20_cifar10.safetensors"))
    found = Parquet(path="data/cifar10").load(SourceContext(folder=SHARED, cache=SHARED, seed=0))
    # The net never saw the test images; the strong attack has others of them than the cheap ones.
    cheap, strong = found.test.part(torch.arange(5000)), found.test.part(torch.arange(5000, 5000 + STRONG))
    return Bench(network.eval(), replace(found, normalization=Normalization(MEAN, STD), validation=cheap, test=strong))


def versions(found: Bench) -> Iterator[tuple[str, nn.Module]]:
    """The dense net, and what is made of it."""
    host = PluginHost()
    yield "dense", found.cut({})
    for name, recovery in RECOVERIES.items():
        strategy = Strategy.model_validate({"use": "one-shot", "recover": list(recovery)}, context=host)
        for label in SCORERS if len(recovery) == 1 else SCORERS[:1]:
            scorer = Scorer.model_validate({"use": label}, context=host)
            for ratio in RATIOS:
                made = found.prune(strategy, found.uniform(ratio), scorer=scorer).network
                yield f"{ratio:.0%} of each layer by {label}, {name}", made


def auto_pgd(found: Bench, network: nn.Module) -> float:
    """Robust accuracy on the last test images, by ART's Auto-PGD on the cross-entropy."""
    from art.attacks.evasion import AutoProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    inputs, targets = found.data.test.fetch(torch.arange(STRONG))
    model = PyTorchClassifier(
        found.predictor(network), nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = AutoProjectedGradientDescent(
        model, eps=EPSILON, eps_step=2 * EPSILON, max_iter=STEPS, nb_random_init=1, batch_size=STRONG,
        loss_type="cross_entropy", verbose=False,
    )  # fmt: skip
    np.random.seed(0)
    moved = attack.generate(inputs.first.numpy(), targets.numpy())
    return float((model.predict(moved).argmax(1) == targets.numpy()).mean())


def page() -> Iterator[str]:
    """Measure, and tell in markdown."""
    found = bench()
    rows: list[tuple[str, dict[str, float], float]] = []
    seconds: dict[str, list[float]] = {name: [] for name in CHEAP}
    strong_s: list[float] = []
    for evaluator in CHEAP.values():  # the dense model's part, which is kept for all
        found.measure(evaluator)
    for name, network in versions(found):
        told = {}
        for cheap, evaluator in CHEAP.items():
            start = time.process_time()
            told[cheap] = next(iter(found.measure(evaluator, network=network).values())).value
            seconds[cheap].append(time.process_time() - start)
        start = time.process_time()
        rows.append((name, told, auto_pgd(found, network)))
        strong_s.append(time.process_time() - start)
        print(name, told, rows[-1][2], flush=True)
    strong = [value for _, _, value in rows]
    yield "# Whether a search's attack ranks models as a strong one does"
    yield (
        f"`python -m tests.benchmarks.attack_ranking`, one thread of {environment()['cpu']}, torch {torch.__version__},"
        f" autoprune {version('autoprune')}. {len(rows)} versions of ResNet-20 on CIFAR-10; ε = 0.5/255, L∞. The strong"
        f" attack is ART's Auto-PGD, {STEPS} steps on {STRONG} test images, which takes {median(strong_s):.0f} CPU"
        " seconds per model; the cheap ones have other test images. Spearman's rank correlation over the versions, with"
        " a 95 % bootstrap interval over them."
    )
    table = [
        "| measured in the search | with Auto-PGD | CPU seconds per model, median (least – most) |",
        "|---|---|---|",
    ]
    for cheap, taken in seconds.items():
        spread = f"{median(taken):.2f} ({min(taken):.2f} – {max(taken):.2f})"
        table.append(f"| {cheap} | {correlation([told[cheap] for _, told, _ in rows], strong)} | {spread} |")
    yield "\n".join(table)
    yield "## The versions"
    table = [f"| version | {' | '.join(CHEAP)} | Auto-PGD |", "|---" * (len(CHEAP) + 2) + "|"]
    for name, told, value in rows:
        table.append(f"| {name} | {' | '.join(f'{told[cheap]:.3f}' for cheap in CHEAP)} | {value:.3f} |")
    yield "\n".join(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/measured/attack_ranking.md", help="the page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = "\n\n".join(page()) + "\n"
    options.output.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
