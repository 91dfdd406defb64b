"""Discovering a model's structure and applying a candidate, next to Torch-Pruning in the same run.

    python tests/benchmarks/engine.py [--only vit-s …] [--skip depth] [--output docs/measured/engine_benchmarks.md]

Prints a markdown table of medians with quartiles. A candidate keeps half of every group. Torch-Pruning works in place,
so that each of its candidates is a copy, a dependency graph and a pruning with the same ratio (heads whole, the last
layer's outputs kept); the two take turns. Memory is measured in a fresh process for each net.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from nets import DEPTHS, NETS, Bench
from torch import Tensor, nn

from autoprune.structure import discover

MIB = 2**20
PATIENCE_S = 60.0
"""A measurement that takes longer is repeated no more, once it was taken `FEWEST` times."""
FEWEST = 3


def spread(seconds: Sequence[float], *, unit: str) -> str:
    """Median, quartiles and the number of repetitions."""
    scale = {"s": 1.0, "ms": 1e3}[unit]
    low, middle, high = (scale * value for value in statistics.quantiles(seconds, n=4, method="inclusive"))
    return f"{middle:.3g} {unit} ({low:.3g}–{high:.3g}, n = {len(seconds)})"


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes; what earlier ones left is not collected at its cost."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeated(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call."""
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < FEWEST or sum(seconds) < PATIENCE_S):
        seconds.append(timed(call))
    return seconds


def torch_pruning(network: nn.Module, example: Tensor) -> nn.Module:
    """Half of everything with Torch-Pruning: copy, dependency graph, cut."""
    import torch_pruning as tp

    copied = copy.deepcopy(network)
    attentions = [module for module in copied.modules() if hasattr(module, "num_heads")]
    heads = {
        layer: module.num_heads
        for module in attentions
        for layer in ([module.qkv] if module.qkv is not None else [module.query, module.key, module.value])
    }
    last = [module for module in copied.modules() if isinstance(module, nn.Linear)][-1]
    pruner = tp.pruner.MagnitudePruner(
        copied,
        example,
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[last],
        num_heads=heads,
        prune_num_heads=bool(heads),
        head_pruning_ratio=0.5,
        prune_head_dims=False,
    )
    pruner.step()
    for module in attentions:
        module.num_heads = pruner.num_heads[module.qkv if module.qkv is not None else module.query]
    return copied


def speed(name: str, bench: Bench, repeats: int) -> list[str]:
    """A row: discovery, a candidate, the same by Torch-Pruning, how many times faster, what both leave."""
    torch.manual_seed(0)
    network, example = bench.make().eval(), bench.example()
    structure = discover(network, (example,))  # also warms up
    discovery = repeated(lambda: discover(network, (example,)), repeats)
    kept = {g.name: torch.randperm(g.units)[: max(1, g.units // 2)].sort().values for g in structure.groups}
    small = structure.cut(network, kept)
    row = [name, millions(network), str(len(structure.groups)), spread(discovery, unit="s")]
    if importlib.util.find_spec("torch_pruning") is None:
        ours = repeated(lambda: structure.cut(network, kept), repeats)
        return [*row, spread(ours, unit="ms"), "not installed", "", share(small, network)]
    try:
        theirs_small = torch_pruning(network, example)
        with torch.no_grad():
            theirs_small(example)
    except Exception as error:  # noqa: BLE001  its error is the result
        ours = repeated(lambda: structure.cut(network, kept), repeats)
        return [*row, spread(ours, unit="ms"), f"fails: {type(error).__name__}", "", share(small, network)]
    ours, theirs = [], []
    for turn in range(repeats):
        if turn < max(5, repeats // 2):
            theirs.append(timed(lambda: torch_pruning(network, example)))
        ours.append(timed(lambda: structure.cut(network, kept)))
    faster = statistics.median(theirs) / statistics.median(ours)
    left = f"{share(small, network)} / {share(theirs_small, network)}"
    return [*row, spread(ours, unit="ms"), spread(theirs, unit="ms"), f"{faster:.1f} ×", left]


def millions(network: nn.Module) -> str:
    """Number of parameters."""
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"


def share(small: nn.Module, network: nn.Module) -> str:
    """Part of the parameters that is left."""
    return f"{sum(p.numel() for p in small.parameters()) / sum(p.numel() for p in network.parameters()):.0%}"


def memory(name: str) -> list[str]:
    """A row: parameters, activations, peak of discovery beyond the dense model, and the ratio."""
    command = [sys.executable, __file__, "--memory-of", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    ratio = found["peak"] / (found["parameters"] + found["activations"])
    sizes = [f"{found[key] / MIB:.1f} MiB" for key in ("parameters", "activations", "peak")]
    return [name, *sizes, f"{ratio:.2f}"]


def measure_memory(bench: Bench) -> dict[str, int]:
    """Bytes of the parameters, of all modules' outputs at the example, and of discovery's peak beyond the dense model.

    What libraries load at their first use is no part of it: a tiny net is discovered first.
    """
    discover(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval(), (torch.rand(2, 3, 8, 8),))
    network, example = bench.make().eval(), bench.example()
    activations = 0

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        nonlocal activations
        activations += output.numel() * output.element_size()

    hooks = [m.register_forward_hook(count) for m in network.modules() if not any(m.children())]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    discover(network, (example,))
    return {"parameters": parameters, "activations": activations, "peak": _resident("VmHWM") - before}


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SPEED = (
    "net", "parameters", "groups", "discovery", "a candidate", "Torch-Pruning: copy, graph, prune", "faster",
    "parameters left, ours / theirs",
)  # fmt: skip
MEMORY = ("net", "parameters", "activations at the example", "discovery's peak beyond them", "ratio")


def report(options: argparse.Namespace) -> str:
    """All that was asked for, as markdown."""
    chosen = [name for name in (*NETS, *DEPTHS) if not options.only or name in options.only]
    bench = NETS | DEPTHS
    parts = [f"# Structure engine: speed and memory\n\n{_conditions()}"]

    def rows(measure: Callable[[str], list[str]], names: Sequence[str]) -> list[list[str]]:
        made = []
        for name in names:
            made.append(measure(name))
            print(*made[-1], sep=" | ", file=sys.stderr, flush=True)
        return made

    nets, depths = [n for n in chosen if n in NETS], [n for n in chosen if n in DEPTHS]
    if nets and "speed" not in options.skip:
        found = rows(lambda name: speed(name, bench[name], options.repeats), nets)
        targets = (
            "Targets: discovery of ResNet-56 in 3 s or less; convolutional nets at least 15 × faster per candidate."
        )
        parts.append(f"## A candidate\n\n{targets}\n\n{table(SPEED, found)}")
    if depths and "depth" not in options.skip:
        found = rows(lambda name: speed(name, bench[name], options.repeats), depths)
        parts.append(f"## Growth with depth\n\nResidual nets for CIFAR of that many layers.\n\n{table(SPEED, found)}")
    if chosen and "memory" not in options.skip:
        found = rows(memory, chosen)
        parts.append(f"## Memory of discovery\n\nTarget: a ratio below 2.\n\n{table(MEMORY, found)}")
    return "\n\n".join(parts) + "\n"


def _conditions() -> str:
    cores = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if importlib.util.find_spec("torch_pruning") is not None:
        versions += f", torch-pruning {importlib.metadata.version('torch-pruning')}"
    return (
        f"Made by `python tests/benchmarks/engine.py` on {len(cores)} × {cores[0].partition(': ')[2]}, "
        f"{torch.get_num_threads()} thread; {versions}. Median (quartiles, repetitions). Half of every group goes. "
        "Examples: two samples of 32 × 32 pixels (CIFAR nets), 64 × 64 (ResNet-50, MobileNetV2), 224 × 224 (ViT-S), "
        "16 tokens (BERT-base size)."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*NETS, *DEPTHS], default=[], metavar="NET")
    parser.add_argument("--skip", nargs="+", choices=["speed", "depth", "memory"], default=[])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--memory-of", choices=[*NETS, *DEPTHS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # Torch-Pruning's
    if options.memory_of:
        print(json.dumps(measure_memory((NETS | DEPTHS)[options.memory_of])))
        return
    text = report(options)
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
