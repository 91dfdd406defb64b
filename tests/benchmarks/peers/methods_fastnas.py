"""NVIDIA ModelOpt's FastNAS pruning: one score, one bound on FLOPs per call, so a front is a ladder of bounds.

It measures how much the score falls when each layer alone gets narrower, then takes the smallest widths whose worst
fall meets the bound. The map of falls is kept between calls, as its documentation advises for several bounds. Channels
are ranked by its own measure of magnitude. https://nvidia.github.io/Model-Optimizer/guides/3_pruning.html
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.plugin import Cost, EvaluationContext
from autoprune.study.predictor import Predictor

from .measure import CPU, Measure
from .quiet import quiet
from .record import Recorder
from .tasks import Setting

DIVISOR = 2
"""Widths are multiples of it. The default, 32, would leave small nets next to no choice; 1 makes its first pass longer
still."""
_CALIBRATED = 512, 128
"""Train samples, and how many at once, that it takes batch norm's statistics from; as the tasks' recovery does."""


def run(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """A ladder of `budget` bounds on the FLOPs, from most to least."""
    import modelopt.torch.prune as mtp

    mode = [("fastnas", _config(mtp))]
    inputs, _ = setting.data.validation.fetch(torch.arange(1))
    note = ""
    with recorder.running():
        measure = Measure(setting)
        score = _score(setting)
        for step in range(budget):
            share = 1 - (step + 1) / (budget + 1)
            try:
                with quiet():
                    pruned, _ = mtp.prune(
                        Predictor(
                            copy.deepcopy(setting.network), setting.data.normalization, task=setting.components.task
                        ),
                        mode=mode,
                        constraints={"flops": f"{100 * share:.1f}%"},
                        dummy_input=inputs.args,
                        config={
                            "data_loader": _batches(setting),
                            "collect_func": lambda batch: batch,
                            "score_func": score,
                            "checkpoint": str(workspace / "fastnas.pth"),
                            "verbose": False,
                        },
                    )
            except ValueError as error:
                if not step or "Profiling Results" not in str(error):
                    raise
                note = f"; its narrowest network has more than {share:.0%} of the FLOPs"
                break
            network = pruned.network
            measure.recover(network, step)
            recorder.add(measure(network), network=lambda made=network: made)
    return f"widths in multiples of {DIVISOR}; its own ranking of channels; the score is accuracy{note}"


def _config(mtp: Any) -> dict[str, Any]:
    config: dict[str, Any] = mtp.fastnas.FastNASConfig().model_dump()
    for rule in config.values():
        for options in rule.values() if isinstance(rule, dict) else ():
            for key in ("channel_divisor", "feature_divisor"):
                if isinstance(options, dict) and key in options:
                    options[key] = DIVISOR
    return config


def _score(setting: Setting) -> Any:
    """The task's accuracy."""
    evaluator = next(e for e in setting.components.evaluators if e.metrics[0].cost == Cost.FORWARD)
    cache: dict[Any, Any] = {}

    def score(model: nn.Module) -> float:
        context = EvaluationContext(
            device=CPU, seed=0, data=setting.data, task=setting.components.task, cache=cache, split="validation",
            dense=model,
            costs=None, dense_costs=None,  # type: ignore[arg-type]  accuracy asks for none
        )  # fmt: skip
        value = evaluator.evaluate(model.eval(), context)["accuracy"]
        return float(getattr(value, "value", value))

    return score


def _batches(setting: Setting) -> list[tuple[Tensor, ...]]:
    samples, size = _CALIBRATED
    order = torch.Generator().manual_seed(0)
    return [inputs.args for inputs, _ in setting.data.train.batches(size, samples=samples, generator=order)]
