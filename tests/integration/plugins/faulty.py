"""Components that do what they must not, and some that do the same rightly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.plugin import (
    Candidate,
    Choices,
    Cost,
    Costs,
    Data,
    EvaluationContext,
    Evaluator,
    Group,
    LayerCosts,
    Measured,
    Metric,
    Observer,
    ObserverContext,
    PruneContext,
    Pruned,
    Sampler,
    SamplerContext,
    ScoreContext,
    Scorer,
    Strategy,
    StudyInfo,
    Task,
    Transform,
    TransformContext,
    TrialResult,
)
from autoprune.toolkit.training import Training, train

if TYPE_CHECKING:
    import optuna


def cut(candidate: Candidate, ctx: PruneContext, pruned: Pruned) -> Pruned:
    return ctx.cut(pruned, ctx.select(ctx.score(pruned), candidate.cut_units))


class TrainsFirst(Training, Strategy):
    """Trains the whole network, keeps a copy of what that came to, then cuts."""

    name = "trains-first"

    kept: Path

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        pruned = ctx.start()
        train(pruned.network, ctx, self)
        self.kept.mkdir(exist_ok=True)
        save_file({n: p.detach().clone() for n, p in pruned.network.named_parameters()}, self.kept / str(ctx.seed))
        return cut(candidate, ctx, pruned)


class Meddling(Strategy):
    """Does to the cut network what a saved model would lose, or makes it predict NaN."""

    name = "meddling"

    fault: Literal["hook", "replace", "nan"]
    beyond: float = 0.0
    """Where more than that fraction of the units goes."""

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        pruned = cut(candidate, ctx, ctx.start())
        network: Any = pruned.network
        if max(candidate.ratios.values()) <= self.beyond:
            return pruned
        if self.fault == "hook":
            network.first.register_forward_hook(lambda module, args, outputs: outputs * 0.5)
        elif self.fault == "replace":
            network.first = Gated(network.first)
        else:
            with torch.no_grad():
                network.head.weight[0, 0] = float("nan")
        return pruned


class Gated(nn.Module):
    """A linear layer whose outputs are multiplied by a gate each."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.gate = nn.Parameter(torch.full((layer.out_features,), 0.5, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gate


class Gates(Transform):
    """The same gates as a step of the saved model."""

    name = "gates"

    def apply(self, network: nn.Module, choice: Choices, ctx: TransformContext) -> nn.Module:
        return self.rebuild(network, choice)

    def rebuild(self, network: nn.Module, choice: Choices) -> nn.Module:
        network.first = Gated(network.get_submodule("first"))  # type: ignore[arg-type]
        return network

    def costs(self, layers: Mapping[str, LayerCosts], choice: Choices) -> Mapping[str, LayerCosts]:
        first = layers["first"]
        (units,) = first.shapes["bias"]
        costs = first.costs
        gated = Costs(costs.params + units, costs.macs, costs.bytes + 4 * units, costs.nonzero + units)
        return {"first": replace(first, kind="Gated", costs=gated)}


class Vandal(Evaluator):
    """Changes the dense network when it meets a model of so many parameters."""

    name = "vandal"
    metrics = (Metric("distance", "outputs", "minimize", Cost.FORWARD),)

    params: int = 0

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        inputs, _ = ctx.data.validation.fetch(torch.arange(8))
        with torch.no_grad():
            distance = (inputs.feed(model) - inputs.feed(ctx.dense)).abs().mean().item()
            if ctx.costs.params == self.params:
                ctx.dense.network.second.weight.mul_(-1)  # type: ignore[union-attr,operator]
        return {"distance": distance}


class Misfit(Evaluator):
    """Takes for granted what the data does not have."""

    name = "misfit"
    metrics = (Metric("calibration", "fraction", "minimize", Cost.FORWARD),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        inputs, _ = ctx.data.validation.fetch(torch.arange(4))
        height, _ = inputs.first.shape[-2:]
        raise ValueError(f"images have 32 rows, not {height}")


class Slow(Evaluator):
    """A stopwatch on a busy machine: the dense model takes longer than itself."""

    name = "slow"
    metrics = (Metric("time_ratio", "fraction of dense", "minimize", Cost.TIMING),)

    off: float = 1.4

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        return {"time_ratio": self.off * ctx.costs.params / ctx.dense_costs.params}


class WithFunction(Evaluator):
    """Has an option that is code."""

    name = "with-function"
    metrics = (Metric("reduced", "outputs", "minimize", Cost.FORWARD),)

    reduce: Annotated[Callable[[Tensor], Tensor], BeforeValidator(lambda name: getattr(torch, name))] = torch.mean

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        inputs, _ = ctx.data.validation.fetch(torch.arange(4))
        return {"reduced": self.reduce(inputs.feed(model)).item()}


class Short(Scorer):
    """Forgets the last unit."""

    name = "short"

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        return torch.ones(group.units - 1)


class Deaf(Task):
    """Numbers, of which no two differ."""

    name = "deaf"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean(1)

    def divergence(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return torch.zeros(len(outputs))

    def agreement(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return torch.ones(len(outputs))

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        return None


class Overwriting(Observer):
    """Keeps its notes where the report is."""

    name = "overwriting"

    def trial_finished(self, study: StudyInfo, result: TrialResult, ctx: ObserverContext) -> None:
        (study.folder / "report.md").write_text(f"my notes on trial {result.number}")


class Listening(Sampler):
    """Draws at random, and keeps the divergences of the probes that it is told."""

    name = "listening"

    heard: Path

    @property
    def probe_samples(self) -> int:
        return 16

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        import optuna

        with self.heard.open("a") as file:
            for group, known in ctx.sensitivity().items():
                for units, divergence in zip(known.cut_units, known.divergence, strict=True):
                    print(group, units, divergence, file=file)
        return optuna.samplers.RandomSampler(seed=ctx.seed)
