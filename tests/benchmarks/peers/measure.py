"""What a pruned network is worth: the one function that every method's networks go through."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune import StructureError
from autoprune.plugin import (
    Cost,
    Costs,
    EvaluationContext,
    Evaluator,
    ExactEvaluator,
    Inputs,
    PruneContext,
    Pruned,
    Recovery,
    SplitName,
)
from autoprune.study.checks import checked_metrics
from autoprune.study.predictor import Predictor, takes_channels_last
from autoprune.study.seeding import derive, seeded

from .tasks import Setting

CPU = torch.device("cpu")
_PROBES = 9
"""Weights of an output by which it is known; two of different outputs may be equal."""


def counted(network: nn.Module, example: Inputs) -> Costs:
    """Size of any network, its multiply-accumulates by PyTorch's own counter over one sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the flag's setter speaks of Intel's GPUs
        # Fused kernels are no products to the counter: recurrent layers of oneDNN, attention on the CPU.
        unfused = torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH)
        with unfused[0], unfused[1], torch.no_grad(), FlopCounterMode(display=False) as counter:
            example[:1].feed(network)
    parameters, buffers = list(network.parameters()), list(network.buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*parameters, *buffers))
    params = sum(p.numel() for p in parameters)
    return Costs(params=params, macs=counter.get_total_flops() // 2, bytes=size, nonzero=params)


class Measure:
    """Recovers and measures networks by the task's own recovery and evaluators."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._seed = setting.spec.search.seed
        self._dense_costs = counted(setting.network, setting.example)
        self._channels_last = takes_channels_last((setting.network,), setting.example)
        self._dense = self._predictor(setting.network)
        self._kept: dict[str, dict[object, object]] = {"validation": {}, "test": {}, "prune": {}}

    def _predictor(self, network: nn.Module) -> Predictor:
        """As our searches lay out images: every method's networks are measured alike."""
        return Predictor(
            network,
            self._setting.data.normalization,
            task=self._setting.components.task,
            channels_last=self._channels_last,
        )

    def recover(self, network: nn.Module, number: int) -> None:
        """What the task's strategy does after a cut.

        Args:
            network: Cut; changed in place.
            number: Of the candidate, which seeds the recovery as a trial's number does.
        """
        strategy = self._setting.components.strategies[0].component
        recoveries: tuple[Recovery, ...] = strategy.recover  # type: ignore[attr-defined]
        seed = derive(self._seed, number)
        context = PruneContext(
            device=CPU,
            seed=seed,
            data=self._setting.data,
            task=self._setting.components.task,
            cache=self._kept["prune"],
            groups=(),
            dense=self._setting.network,
            build=_not_here,
            start=lambda: Pruned(copy.deepcopy(self._setting.network)),
            score=_not_here,
            select=_not_here,
            cut=_not_here,
            rows=lambda pruned, layer: stayed(self._setting.network, pruned.network, layer),
            once=_not_here,
            predictor=self._predictor,
        )
        with seeded(seed, CPU):
            for recovery in recoveries:
                recovery.recover(Pruned(network.eval()), context)

    def __call__(self, network: nn.Module, split: SplitName = "validation") -> dict[str, float]:
        """The task's objectives, measured.

        On the test split accuracy is measured on all samples; an attack is the same as in the search.
        """
        setting, measured = self._setting, dict[str, float]()
        predictor = self._predictor(network.eval())
        context = EvaluationContext(
            device=CPU,
            seed=self._seed,
            data=setting.data,
            task=setting.components.task,
            cache=self._kept[split],
            split=split,
            dense=self._dense,
            costs=counted(network, setting.example),
            dense_costs=self._dense_costs,
        )
        for evaluator in setting.components.evaluators:
            with seeded(context.seed, CPU):
                used = _whole(evaluator) if split == "test" else evaluator
                metrics = checked_metrics(used.evaluate(predictor, context), used, setting.data)
            measured |= {name: metric.value for name, metric in metrics.items()}
        return {name: measured[name] for name in setting.task.objectives}


def stayed(dense: nn.Module, cut: nn.Module, layer: str) -> Tensor:
    """Which of a layer's outputs another tool has left, (O,): those whose weights are found in the dense network.

    Raises:
        StructureError: It has no weights of its own, or they are not all found.
    """
    before, now = (getattr(dict(network.named_modules())[layer], "weight", None) for network in (dense, cut))
    if before is None or now is None:
        raise StructureError(f"{layer} has no weight")
    values, order = before.detach().flatten().sort()
    probes = now.detach().flatten(1)[:, :_PROBES].contiguous()
    places = torch.searchsorted(values, probes).clamp_max(len(values) - 1)
    if not torch.equal(values[places], probes):
        raise StructureError(f"{layer} has weights that the dense network has not")
    return (order[places] // before[0].numel()).mode(1).values


def _whole(evaluator: Evaluator) -> Evaluator:
    cheap = isinstance(evaluator, ExactEvaluator) or evaluator.metrics[0].cost == Cost.FORWARD
    return evaluator.final() if cheap else evaluator


def _not_here(*_: object) -> Any:
    """For what only the engine's own strategies ask."""
    raise NotImplementedError
