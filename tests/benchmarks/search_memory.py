"""Memory of a search: ``python -m tests.benchmarks.search_memory SPEC --trials 1000``.

Two processes, each on one thread: one loads model and data and evaluates the dense model once, the other one searches.
With ``--decoded`` both decode every image before that, which sources otherwise do as images are asked for.
Told are the first peak, and what the second holds after its trials and at its peak (resident set in MiB, Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoprune.host.plugins import PluginHost
    from autoprune.plugin import Data, DataSource, SourceContext
    from autoprune.spec import Spec

MARKS = (1, 10, 30, *range(100, 3001, 100))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what both take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[], help="overrides of the spec")
    parser.add_argument("--decoded", action="store_true", help="decode every image at once")
    parser.add_argument("--part", choices=["dense", "search"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        (_dense if options.part == "dense" else _search)(options)
        return
    for part in ("dense", "search"):
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.search_memory", str(options.spec)]
        command += ["--part", part, "--trials", str(options.trials), *(a for o in options.set for a in ("--set", o))]
        command += ["--decoded"] if options.decoded else []
        subprocess.run(command, check=True)


def _dense(options: argparse.Namespace) -> None:
    import torch

    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost
    from autoprune.plugin import EvaluationContext
    from autoprune.study import resolve

    torch.set_num_threads(1)
    host = PluginHost()
    spec = load_spec(options.spec, overrides=options.set, host=host)
    if options.decoded:
        _decode_at_once(spec, host)
    problem = resolve(spec, host)
    loaded = _mebibytes("VmHWM")
    predictor, costs = problem.predictor(problem.network), problem.structure.costs()
    context = EvaluationContext(
        device=problem.device, seed=0, data=problem.data, split="validation", dense=predictor, costs=costs,
        dense_costs=costs,
    )  # fmt: skip
    for evaluator in problem.components.evaluators:
        evaluator.evaluate(predictor, context)
    print(
        f"dense model evaluated once: peak {_mebibytes('VmHWM'):.0f} MiB ({loaded:.0f} before evaluating)", flush=True
    )


def _search(options: argparse.Namespace) -> None:
    import torch

    from autoprune.host.binding import load_spec
    from autoprune.host.plugins import PluginHost
    from autoprune.plugin import TrialResult, hookimpl
    from autoprune.study import search

    class Watch:
        def __init__(self) -> None:
            self._held: list[float] = []

        @hookimpl
        def autoprune_trial_finished(self, result: TrialResult) -> None:
            self._held.append(_mebibytes("VmRSS"))
            if (count := result.number + 1) in MARKS:
                held, self._held = self._held, []
                print(
                    f"trials {count - len(held) + 1} to {count}: from {min(held):.0f} to {max(held):.0f} MiB, "
                    f"mean {sum(held) / len(held):.0f}, peak {_mebibytes('VmHWM'):.0f}",
                    flush=True,
                )

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        own = [f"search.trials={options.trials}", "search.workers=1"]
        own += ["tracking.enabled=false", f"output={folder}/study"]
        host = PluginHost()
        spec = load_spec(options.spec, overrides=(*options.set, *own), host=host)
        if options.decoded:
            _decode_at_once(spec, host)
        search(spec, host=host, observers=[Watch()])
    print(f"front measured on the test split, all done: peak {_mebibytes('VmHWM'):.0f} MiB", flush=True)


def _decode_at_once(spec: Spec, host: PluginHost) -> None:
    """Have the spec's kind of data source fetch every sample as it loads."""
    import torch

    from autoprune.host.binding import bind

    source = type(bind(spec, host).data)
    load = source.load

    def loading(self: DataSource, ctx: SourceContext) -> Data:
        data = load(self, ctx)
        for split in (data.train, data.validation, data.test):
            for start in range(0, len(split), 256):
                split.fetch(torch.arange(start, min(start + 256, len(split))))
        return data

    source.load = loading  # type: ignore[method-assign]


def _mebibytes(kind: str) -> float:
    from autoprune.study.native_memory import held

    return held(kind) / 2**20


if __name__ == "__main__":
    main()
