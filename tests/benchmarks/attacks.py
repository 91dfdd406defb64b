"""PGD-10 on the stored ResNet-20: images per CPU second, beside Foolbox and ART in the same run.

    python -m tests.benchmarks.attacks [--images 128] [--repeats 3] [--output attacks.md]

All three attack the same test images of CIFAR-10 with one thread, in turn, and are asked the same: how many predictions
are right despite the attack. Ours is what a search runs: folded batch norms, channels last, and images that fell, or
were wrong as they are, are not attacked; in a second row none falls. The data are looked for in ``AUTOPRUNE_DATA``
(default: ``../shared``). An epsilon of 0.5/255 leaves the dense model about 60 % robust accuracy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autoprune.plugin import Costs, Data, EvaluationContext, Inputs, Measured, Normalization, SourceContext, Split
from autoprune.structure import discover
from autoprune.study.predictor import Predictor, takes_channels_last
from autoprune_evaluators import Pgd
from autoprune_sources import Parquet
from autoprune_tasks.classification import Classification

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("AUTOPRUNE_DATA", ROOT / ".." / "shared")).resolve()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON, STEPS, BATCH = 0.5 / 255, 10, 64
COSTS = Costs(params=1, macs=1, bytes=1, nonzero=1)

Attack = Callable[[], float]
"""Attacks all images, and gives the robust accuracy."""


def ours(network: nn.Module, images: Tensor, targets: Tensor, epsilon: float) -> Attack:
    """The evaluator, on the model as a search has it."""
    normalization, split = Normalization(MEAN, STD), Split.of_tensors(images, targets)
    fast = discover(network, (images[:4],)).folded(network)
    last = takes_channels_last((network, fast), Inputs.of(images[:4]))
    model = Predictor(fast, normalization, channels_last=last).eval()
    context = EvaluationContext(
        seed=0,
        device=torch.device("cpu"),
        data=Data(split, split, split, classes=10, normalization=normalization, bounds=(0.0, 1.0)),
        task=Classification(),
        split="validation",
        dense=model,
        costs=COSTS,
        dense_costs=COSTS,
        of_dense=True,
    )

    def run() -> float:
        context.cache.clear()
        evaluator = Pgd(epsilon=epsilon, steps=STEPS, samples=None, batch_size=BATCH, random_start=False)
        found = evaluator.evaluate(model, context)["robust_accuracy"]
        assert isinstance(found, Measured)
        return found.value

    return run


def foolbox(network: nn.Module, images: Tensor, targets: Tensor) -> Attack:
    """LinfPGD with its own preprocessing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox as fb

    preprocessing = {"mean": list(MEAN), "std": list(STD), "axis": -3}
    model = fb.models.PyTorchModel(network, bounds=(0, 1), device="cpu", preprocessing=preprocessing)
    attack = fb.attacks.LinfPGD(steps=STEPS, abs_stepsize=EPSILON / 4, random_start=False)

    def run() -> float:
        right = 0
        for some, wanted in zip(images.split(BATCH), targets.split(BATCH), strict=True):
            _, _, fell = attack(model, some, fb.criteria.Misclassification(wanted), epsilons=EPSILON)
            right += int((~fell).sum())
        return right / len(images)

    return run


def art(network: nn.Module, images: Tensor, targets: Tensor) -> Attack:
    """Its PyTorch version of PGD with its own preprocessing."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    shape = (3, 1, 1)
    model = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        (3, 32, 32),
        10,
        clip_values=(0, 1),
        device_type="cpu",
        preprocessing=(torch.tensor(MEAN).view(shape).numpy(), torch.tensor(STD).view(shape).numpy()),
    )
    attack = ProjectedGradientDescentPyTorch(
        model, eps=EPSILON, eps_step=EPSILON / 4, max_iter=STEPS, num_random_init=0, batch_size=BATCH, verbose=False
    )

    def run() -> float:
        moved = attack.generate(images.numpy(), targets.numpy())
        return float((model.predict(moved).argmax(1) == targets.numpy()).mean())

    return run


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    """Measure in turn, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="A file for the table; it is printed, too.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "search_spaces/examples"))
    from cifar_resnet import resnet20

    def network() -> nn.Module:
        made: nn.Module = resnet20()
        made.load_state_dict(load_file(SHARED / "models/resnet20_cifar10.safetensors"))
        return made.eval()

    source = SourceContext(folder=SHARED, cache=SHARED, seed=0)
    data = Parquet(path="data/cifar10").load(source)
    inputs, targets = data.test.fetch(torch.arange(options.images))
    images = inputs.first
    attacks = {
        "autoprune": ours(network(), images, targets, EPSILON),
        "autoprune, none falls": ours(network(), images, targets, 1e-9),
        "Foolbox": foolbox(network(), images, targets),
        "ART": art(network(), images, targets),
    }
    rates: dict[str, list[float]] = {name: [] for name in attacks}
    robust: dict[str, float] = {}
    for repeat in range(options.repeats + 1):
        for name, run in attacks.items():
            start = time.process_time()
            robust[name] = run()
            if repeat:  # the first one warms up
                rates[name].append(options.images / (time.process_time() - start))
    times = {name: [a / b for a, b in zip(rates["autoprune"], each, strict=True)] for name, each in rates.items()}
    told = (
        f"PGD-{STEPS}, epsilon {EPSILON * 255:g}/255, {options.images} test images of CIFAR-10, batches of {BATCH},"
        f" ResNet-20, one thread; median of {options.repeats} repeats in turn (least to most)."
    )
    lines = [
        "# PGD per CPU second",
        "",
        told,
        "",
        "| attack | robust accuracy | images per CPU second | autoprune is faster by |",
        "|---|---|---|---|",
        *(f"| {name} | {robust[name]:.3f} | {spread(rates[name])} | {spread(times[name])} |" for name in attacks),
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
