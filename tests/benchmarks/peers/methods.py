"""Every method, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import methods_engine as engine
from . import methods_fastnas as fastnas
from . import methods_pquant as pquant
from . import methods_torch_pruning as torch_pruning
from .record import Recorder
from .tasks import Setting

Run = Callable[[Setting, Recorder, Path, int], str]
"""Setting, recorder, a folder for its files and the number of candidates, to a note for the table."""


@dataclass(frozen=True)
class Method:
    """One way of finding a front."""

    name: str
    title: str
    run: Run
    kind: Literal["ours", "random", "hand", "ladder", "peer"]
    """Its budget, and what it counts as in the targets."""
    needs: str | None = None
    """A package besides autoprune."""
    environment: str | None = None
    """The interpreter that it runs in, where that is another one."""
    seeded: bool = True
    """Whether seeds make a difference: otherwise it runs once."""

    judged: bool = True
    """Whether it has to meet targets, if it is ours."""

    @property
    def missing(self) -> bool:
        """Whether this interpreter lacks what it needs."""
        return self.needs is not None and importlib.util.find_spec(self.needs) is None


_TP = "torch_pruning"
METHODS = {
    method.name: method
    for method in (
        Method("ours", "ours, L1", engine.ours, "ours"),
        Method("ours-best", "ours, as it comes", engine.best, "ours"),
        Method("ours-recalibrated", "ours, norms recalibrated", engine.recalibrated, "ours", judged=False),
        Method("random", "random search, our engine", engine.random, "random"),
        Method("uniform", "uniform ladder, our engine", engine.uniform, "ladder", seeded=False),
        Method("hand-nsga2", "Torch-Pruning + Optuna NSGA-II", torch_pruning.hand(torch_pruning.nsga2), "hand", _TP),
        Method("hand-tpe", "Torch-Pruning + Optuna TPE", torch_pruning.hand(torch_pruning.tpe), "hand", _TP),
        Method("tp-uniform", "Torch-Pruning, uniform ladder", torch_pruning.ladder(torch_pruning.uniformly),
               "ladder", _TP, seeded=False),
        Method("tp-global", "Torch-Pruning, global ladder", torch_pruning.ladder(torch_pruning.globally),
               "ladder", _TP, seeded=False),
        Method("fastnas", "ModelOpt FastNAS", fastnas.run, "peer", "modelopt", "modelopt", seeded=False),
        Method("pquant", "PQuantML", pquant.run, "peer", "pquant", "pquant"),
    )
}  # fmt: skip
