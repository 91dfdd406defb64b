"""What a user would build by hand: Torch-Pruning's cut, in plain Optuna studies and in ladders.

Torch-Pruning works in place and knows no groups beforehand, so every candidate is a copy of the dense model, a new
dependency graph and a pruning, as its documentation shows. Layers that it cannot cut are found by trying before the
clock starts, which favours it: by hand that takes longer than any search here.
"""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.plugin import Inputs

from .measure import Measure
from .record import Recorder
from .tasks import Setting

HIGH = 0.9
"""Largest ratio, as in the tasks' search space."""
_HIGHS = (HIGH, 0.8, 0.5)
"""Largest ratios that are tried for a group: it refuses, in silence, one that rounds to all channels."""
_PARTS = (1.0, 0.6, 0.3)
"""Of the largest ratio, that every group must stand, alone and with the others."""
_HEADED = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "qkv")


class UncutError(Exception):
    """Torch-Pruning can cut nothing of a model."""


@dataclass(frozen=True)
class Cutter:
    """Torch-Pruning, on what it can cut of a model."""

    network: nn.Module
    example: Inputs
    groups: tuple[tuple[tuple[str, ...], float], ...]
    """Layers that lose outputs together, and the largest ratio that works."""
    ignored: tuple[str, ...]
    """Layers that stay whole: the last one, and those that it cannot cut."""
    reasons: Mapping[str, str]
    """Why, for the groups that it cannot cut, by their first layer."""

    @classmethod
    def find(cls, network: nn.Module, example: Inputs) -> Cutter:
        """Try every group, alone and together with those that worked before it.

        Raises:
            UncutError: None can be cut.
        """
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        whole = cls(network, example, (), (last,), {})
        try:
            groups = whole._groups()
        except Exception as error:
            raise UncutError(f"its dependency graph cannot be built: {_reason(error)}") from error
        found, reasons = whole, dict[str, str]()
        for layers in groups:
            fault: str | None = None
            for high in _HIGHS:
                alone = replace(found, groups=((layers, high),))
                together = replace(found, groups=(*found.groups, (layers, high)))
                if (failed := alone._fault() or alone._wrong(0.5 * high) or together._fault()) is None:
                    found = together
                    break
                fault = fault or failed
            else:
                reasons[layers[0]] = str(fault)
                found = replace(found, ignored=(*found.ignored, *layers))
        if not found.groups:
            told = [f"{name}: {reason}" for name, reason in reasons.items()]
            raise UncutError("; ".join(told) or "no layer is offered")
        return replace(found, reasons=reasons)

    def cut(self, ratios: Sequence[float]) -> nn.Module:
        """A cut copy.

        Args:
            ratios: One for each of the groups.
        """
        pairs = zip(self.groups, ratios, strict=True)
        return self._pruned(0.0, {name: min(ratio, high) for (layers, high), ratio in pairs for name in layers})

    def cut_globally(self, ratio: float) -> nn.Module:
        """A copy that lost so many of all channels, ranked together."""
        return self._pruned(ratio, {}, global_pruning=True, max_pruning_ratio=HIGH)

    def note(self) -> str:
        """What it cuts, in words."""
        text = f"{len(self.groups)} {'ratio' if len(self.groups) == 1 else 'ratios'}"
        if self.reasons:
            text += "; cannot cut " + ", ".join(f"{name} ({reason})" for name, reason in self.reasons.items())
        return text

    def _pruned(self, ratio: float, own: Mapping[str, float], **options: Any) -> nn.Module:
        network, pruner = self._pruner(ratio, own, **options)
        pruner.step()
        return network.eval()

    def _pruner(self, ratio: float, own: Mapping[str, float], **options: Any) -> tuple[nn.Module, Any]:
        import torch_pruning as tp

        network = copy.deepcopy(self.network)
        for parameter in network.parameters():
            parameter.requires_grad_(True)  # it follows gradients: without any it prunes nothing, and does not say so
        modules = dict(network.named_modules())
        heads = {
            modules[f"{name}.{child}"]: count
            for name, module in network.named_modules()
            if isinstance(count := getattr(module, "heads", getattr(module, "num_heads", None)), int)
            for child in _HEADED
            if f"{name}.{child}" in modules
        }
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            pruner = tp.pruner.BasePruner(
                network,
                self.example.args if len(self.example.args) > 1 else self.example.first,
                importance=_mean_magnitude,
                pruning_ratio=ratio,
                pruning_ratio_dict={modules[name]: own_ratio for name, own_ratio in own.items()},
                ignored_layers=[modules[name] for name in self.ignored],
                num_heads=heads,
                # Its own defaults for these two are dictionaries that all pruners of a process share and fill.
                in_channel_groups={},
                out_channel_groups={},
                **options,
            )
        return network, pruner

    def _groups(self) -> list[tuple[str, ...]]:
        network, pruner = self._pruner(0.0, {})
        names = {module: name for name, module in network.named_modules()}
        kinds, found = tuple(pruner.root_module_types), []
        for group in pruner.DG.get_all_groups(ignored_layers=pruner.ignored_layers, root_module_types=list(kinds)):
            modules = [dep.target.module for dep, _ in group if pruner.DG.is_out_channel_pruning_fn(dep.handler)]
            layers = dict.fromkeys(names[m] for m in modules if m in names and _is_layer(m))
            if layers:
                found.append(tuple(layers))
        return found

    def _wrong(self, ratio: float) -> str | None:
        """What is wrong with a model that runs: it must be the dense one with the same channels silenced.

        It is not where indices were followed wrongly, through a padded shortcut for one. Where a layer norm averages
        over the channels, or attention is scaled by their number, the two differ anyway, and nothing is said.
        """
        network, pruner = self._pruner(0.0, {name: ratio for layers, _ in self.groups for name in layers})
        names = {module: name for name, module in network.named_modules()}
        silenced = copy.deepcopy(self.network)
        modules = dict(silenced.named_modules())
        for group in pruner.step(interactive=True):
            for dep, indices in group:
                module = dep.target.module
                if module not in names or not pruner.DG.is_out_channel_pruning_fn(dep.handler):
                    continue
                if isinstance(module, nn.LayerNorm | nn.Embedding) or module in pruner.num_heads:
                    return None
                for tensor in ("weight", "bias"):
                    if getattr(module, tensor, None) is not None:
                        getattr(modules[names[module]], tensor).data[indices] = 0
            group.prune()
        with torch.no_grad():
            expected, found = self.example.feed(silenced), self.example.feed(network.eval())
        off = float((expected - found).abs().max() / expected.abs().max().clamp_min(1.0))
        return f"it runs, but wrongly: not the model without those channels, off by {off:.2g}" if off > 1e-3 else None

    def _fault(self) -> str | None:
        """What goes wrong when all groups are cut; None if nothing does."""
        dense = sum(parameter.numel() for parameter in self.network.parameters())
        with torch.no_grad():
            expected = self.example.feed(self.network).shape
        for part in _PARTS:
            try:
                small = self.cut([part * high for _, high in self.groups])
                with torch.no_grad():
                    shape = self.example.feed(small).shape
            except Exception as error:  # noqa: BLE001  whatever it is, it is the reason
                return _reason(error)
            if shape != expected:
                return f"outputs of shape {tuple(shape)}, not {tuple(expected)}"
            if sum(parameter.numel() for parameter in small.parameters()) == dense:
                return f"nothing is cut at ratio {part * self.groups[-1][1]:.2g}"
        return None


def hand(sampler: Callable[[int], Any]) -> Callable[[Setting, Recorder, Path, int], str]:
    """An Optuna study in memory over one ratio per group, by that sampler of a seed."""

    def run(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        cutter = Cutter.find(setting.network, setting.example)
        with recorder.running():
            measure = Measure(setting)
            directions = list(setting.task.objectives.values())
            study = optuna.create_study(directions=directions, sampler=sampler(setting.spec.search.seed))
            for number in range(budget):
                trial = study.ask()
                ratios = [trial.suggest_float(layers[0], 0.0, high) for layers, high in cutter.groups]
                metrics = _candidate(recorder, measure, number, lambda r=ratios: cutter.cut(r))
                if metrics is None:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                else:
                    study.tell(trial, [metrics[name] for name in setting.task.objectives])
        return cutter.note()

    return run


def nsga2(seed: int) -> Any:
    """Optuna's NSGA-II; of its default population, 50, a hundred trials would see two generations."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=20)


def tpe(seed: int) -> Any:
    """Optuna's TPE, multivariate as its documentation advises for ratios that hang together."""
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(seed=seed, multivariate=True)


def ladder(cut: Callable[[Cutter, float], nn.Module]) -> Callable[[Setting, Recorder, Path, int], str]:
    """One ratio in even steps, by that way of cutting."""

    def run(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
        cutter = Cutter.find(setting.network, setting.example)
        with recorder.running():
            measure = Measure(setting)
            for step in range(budget):
                _candidate(recorder, measure, step, lambda r=HIGH * (step + 1) / budget: cut(cutter, r))
        return cutter.note()

    return run


def uniformly(cutter: Cutter, ratio: float) -> nn.Module:
    """One ratio for all groups, or the largest that works."""
    return cutter.cut([ratio] * len(cutter.groups))


def globally(cutter: Cutter, ratio: float) -> nn.Module:
    """All channels ranked together."""
    return cutter.cut_globally(ratio)


def _candidate(
    recorder: Recorder, measure: Measure, number: int, cut: Callable[[], nn.Module]
) -> dict[str, float] | None:
    try:
        network = cut()
        measure.recover(network, number)
        metrics = measure(network)
    except Exception as error:  # noqa: BLE001  a failed candidate, as in any search
        recorder.add(None, reason=_reason(error))
        return None
    recorder.add(metrics, network=lambda: network)
    return metrics


@torch.no_grad()
def _mean_magnitude(group: Any) -> Tensor | None:
    """Mean absolute weight of the outputs of all layers in a group, (U,): what our scorer `l1` is.

    Divided by its mean, as Torch-Pruning's importances are by default, which makes groups comparable for
    ``global_pruning`` and changes no order within one.
    """
    from torch_pruning.pruner import function

    made = (
        function.prune_conv_out_channels,
        function.prune_depthwise_conv_out_channels,
        function.prune_linear_out_channels,
        function.prune_embedding_out_channels,
    )
    read = function.prune_conv_in_channels, function.prune_linear_in_channels
    for kinds in (made, read):  # what only makes them otherwise, as an LSTM, is judged by its readers
        sums = entries = torch.zeros(len(group[0].idxs))
        for place, (dep, indices) in enumerate(group):
            roots = group[place].root_idxs
            if dep.pruning_fn not in kinds or None in roots:
                continue
            columns = kinds is read or dep.pruning_fn is function.prune_embedding_out_channels
            weight = dep.layer.weight.transpose(0, 1) if columns else dep.layer.weight
            rows, where = weight[indices].abs().flatten(1), torch.tensor(roots)
            sums = sums.index_add(0, where, rows.sum(1))
            entries = entries.index_add(0, where, torch.full((len(where),), float(rows.shape[1])))
        if entries.all():
            return sums / entries / (sums / entries).mean()
    return None


def _is_layer(module: object) -> bool:
    return isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.LSTM)


def _reason(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    lines = str(error).strip().splitlines() or [f"in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"]
    return f"{type(error).__name__}: {lines[0][:200]}"
