"""PQuantML: Optuna over global settings of a compression, by its own `TuningTask`. https://github.com/cern-nextgen/PQuantML.

It sets weights to zero and leaves every layer's size as it is, so its networks would save nothing by any count of
multiply-accumulates. To compare them at all, its structured method is used (PDP, whole filters, one global sparsity
that it shares out among the layers), and the filters that it zeroes are cut by our engine, found before the clock
starts; where layers are coupled, a channel goes when all of them have zeroed it. There is no training here, so its
masks come from the dense weights, and its quantisation is switched off.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.structure import Structure, discover

from .measure import Measure
from .quiet import quiet
from .record import Recorder
from .tasks import Setting

HIGH = 0.9


def run(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """A study of `budget` trials, TPE, over the sparsity."""
    os.environ["KERAS_BACKEND"] = "torch"
    tuning: Any = importlib.import_module("pquant.core.hyperparameter_optimization")
    structure = discover(setting.network, setting.example)
    last = [name for name, module in setting.network.named_modules() if isinstance(module, nn.Linear)][-1]
    config = tuning.pdp_config()
    config.pruning_parameters.structured_pruning = True
    config.pruning_parameters.epsilon = 1.0  # all of the sparsity at once
    config.pruning_parameters.disable_pruning_for_layers = [last]
    config.quantization_parameters.enable_quantization = False
    config.quantization_parameters.quantize_input = False
    config.training_parameters.pretraining_epochs = config.training_parameters.fine_tuning_epochs = 0
    config.training_parameters.epochs = 1
    config.hpo_parameters.num_trials = budget
    config.hpo_parameters.sampler.type = "TPESampler"
    config.hpo_parameters.sampler.params = {"seed": setting.spec.search.seed}
    config.hpo_parameters.hyperparameter_search.numerical = {"sparsity": [0.0, HIGH]}
    with recorder.running():
        trial = _Trial(setting, recorder, structure)
        task = tuning.TuningTask(config)
        task.set_hyperparameters()
        for name, better in setting.task.objectives.items():
            task.set_objective_function(name, trial.objective(name), better)
        for setter in (task.set_training_function, task.set_validation_function):
            setter(lambda *_, **__: None)
        for setter in (task.set_optimizer_function, task.set_scheduler_function):
            setter(lambda *_: None)
        inputs, targets = setting.example.first, torch.zeros(len(setting.example), dtype=torch.int64)
        with quiet():
            task.run_optimization(setting.network, trainloader=[(inputs, targets)])
    return "one global sparsity; the filters that it zeroes are cut by our engine; without training and quantisation"


class _Trial:
    """Measures what a trial of theirs made: once, for all objectives."""

    def __init__(self, setting: Setting, recorder: Recorder, structure: Structure) -> None:
        self._setting = setting
        self._recorder = recorder
        self._structure = structure
        self._measure = Measure(setting)
        self._metrics: dict[str, float] = {}

    def objective(self, name: str) -> Any:
        first = next(iter(self._setting.task.objectives))

        def value(compressed: nn.Module, **_: Any) -> float:
            if name == first:
                self._metrics = self._measured(compressed)
            return self._metrics[name]

        return value

    def _measured(self, compressed: nn.Module) -> dict[str, float]:
        network = self._structure.cut(self._setting.network, self._kept(compressed))
        self._measure.recover(network, len(self._recorder.points))
        metrics = self._measure(network)
        self._recorder.add(metrics, network=lambda: network)
        return metrics

    def _kept(self, compressed: nn.Module) -> Mapping[str, Tensor]:
        """Per group the units of which some filter is not zero; the first one where all are."""
        masks = {
            name: module.pruning_layer.get_hard_mask().flatten(1).amax(1) > 0
            for name, module in compressed.named_modules()
            if hasattr(module, "pruning_layer") and module.enable_pruning
        }
        kept: dict[str, Tensor] = {}
        for group in self._structure.groups:
            left = torch.zeros(group.units, dtype=torch.bool)
            for part in group.slices:
                if part.role == "output":
                    layer = part.parameter.rpartition(".")[0]
                    rows = masks.get(layer, torch.ones(int(part.index.max()) + 1, dtype=torch.bool))
                    left |= rows[part.index].any(1)
            kept[group.name] = left.nonzero().view(-1) if left.any() else torch.tensor([0])
        return kept
