"""Every method on every task, ``python -m tests.benchmarks.peers``; ``docs/measured/benchmarks.md`` and its figures.

    --tasks resnet20 digits    --methods ours hand-tpe    --seeds 5    --jobs 1
    --modelopt-python PATH     an interpreter with `pip install . nvidia-modelopt torchprofile==0.0.4 huggingface_hub`
    --pquant-python PATH       one with `pip install . pquant-ml`
    --report                   runs nothing: writes the page from the results that are there
    --quick                    a smoke test: digits, one seed, a few candidates

A run is a task, a method and a seed, in a process and on a thread of its own. Its result is a file under ``--results``;
what is there already is not run again. The models must be there: see the comments of search_spaces/examples.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autoprune import AutopruneError

from .methods import METHODS, Method
from .report import write_report
from .run import environment, execute, known, result_file, write
from .tasks import QUICK, ROOT, TASKS, Task, budget_of

RESULTS = Path(__file__).parent / "results"
_NOT_LOADED = 4
Planned = tuple[Task, Method, int]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page."""
    options = _options(arguments)
    budgets = QUICK if options.quick else None
    if options.one:
        task, method = TASKS[options.one[0]], METHODS[options.one[1]]
        budget = budget_of(task, method.kind, budgets)
        try:
            execute(task, method, seed=int(options.one[2]), budget=budget, results=options.results, jobs=options.jobs)
        except AutopruneError as error:  # the task could not be loaded
            print(error, file=sys.stderr)
            sys.exit(_NOT_LOADED)
        return
    tasks, methods = [TASKS[name] for name in options.tasks], [METHODS[name] for name in options.methods]
    seeds = range(options.seeds)
    if not options.report:
        planned = [(t, m, s) for s in seeds for t in tasks for m in methods if m.seeded or not s]
        with ThreadPoolExecutor(options.jobs) as pool:
            for line in pool.map(lambda run: _run(run, options), planned):
                print(line, flush=True)
    write_report(
        options.results, tasks, methods, seeds=seeds, budgets=budgets, output=options.output, note=options.note
    )
    print(f"wrote {options.output}")


def _run(planned: Planned, options: argparse.Namespace) -> str:
    """Have a run done in a process of its own, unless its result is there; a line about it."""
    task, method, seed = planned
    name = f"{task.name} {method.name} seed {seed}"
    budget = budget_of(task, method.kind, QUICK if options.quick else None)
    file = result_file(options.results, task.name, method.name, seed)
    stored, fresh = known(file, budget), False
    if stored is None:
        python = options.pythons.get(method.environment, sys.executable)
        if python is None:
            return f"{name}: not run: no environment given"
        if method.environment is None and method.missing:
            return f"{name}: not run: {method.needs} is not installed"
        if problem := _process(python, planned, options, budget):
            return f"{name}: not run: {problem}"
        stored, fresh = known(file, budget), True
    assert stored is not None
    points, error = stored["points"], stored["error"]
    text = f"{len(points)} candidates, {points[-1]['seconds']:.1f} s, " if points else ""
    text += f"hypervolume {stored['hypervolume']['validation']:.4f} (test {stored['hypervolume']['test']:.4f})"
    return f"{name}: {'' if fresh else 'there: '}{text}" + (f"; {error}" if error else "")


def _process(python: str, planned: Planned, options: argparse.Namespace, budget: int) -> str | None:
    """Run and store; what ended without a result is stored as a failure, unless the task itself cannot be loaded.

    Returns:
        Why the task cannot be loaded; then nothing is stored.
    """
    task, method, seed = planned
    command = [python, "-W", "ignore", "-m", "tests.benchmarks.peers", "--one", task.name, method.name, str(seed)]
    command += ["--results", str(options.results.resolve()), "--jobs", str(options.jobs)]
    command += ["--quick"] if options.quick else []
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    error = ""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, timeout=options.limit
        )
        if done.returncode == _NOT_LOADED:
            return " ".join(done.stderr.strip().splitlines()[-1:])
        if done.returncode:
            error = " ".join(done.stderr.strip().splitlines()[-1:]) or f"ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        error = f"not done after {options.limit:.0f} s"
    file = result_file(options.results, task.name, method.name, seed)
    if error or known(file, budget) is None:
        failed: dict[str, Any] = {"task": task.name, "method": method.name, "seed": seed, "budget": budget}
        failed |= {"error": error or "left no result", "note": "", "points": [], "members": []}
        failed |= {"hypervolume": dict.fromkeys(("validation", "search", "again", "test"), 0.0)}
        failed |= {"environment": environment() | {"jobs": str(options.jobs)}}
        write(file, failed)
    return None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, help="0, 1, … so many; 5 if left out")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each on one thread")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for one run")
    parser.add_argument("--results", type=Path, help="folder of the results")
    parser.add_argument("--output", type=Path, help="the page; docs/measured/benchmarks.md if left out")
    parser.add_argument("--note", default="", help="a remark on this machine or these runs, for the page's head")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--modelopt-python", metavar="PATH", help="interpreter for fastnas")
    parser.add_argument("--pquant-python", metavar="PATH", help="interpreter for pquant")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    quick = options.quick
    options.results = options.results or (RESULTS / "quick" if quick else RESULTS)
    options.output = options.output or (options.results if quick else ROOT / "docs" / "measured") / "benchmarks.md"
    options.tasks = options.tasks or (["digits"] if quick else list(TASKS))
    options.methods = options.methods or list(METHODS)
    options.seeds = options.seeds or (1 if quick else 5)
    options.pythons = {"modelopt": options.modelopt_python, "pquant": options.pquant_python}
    return options


if __name__ == "__main__":
    main()
