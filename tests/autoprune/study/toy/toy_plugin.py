"""A plugin with one tiny component of each kind, some of which misbehave on request."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from autoprune.plugin import (
    Candidate,
    Component,
    Cost,
    Costs,
    Data,
    DataSource,
    EvaluationContext,
    Evaluator,
    ExactEvaluator,
    Group,
    Measured,
    Metric,
    ModelSource,
    Normalization,
    PruneContext,
    Pruned,
    Sampler,
    SamplerContext,
    ScoreContext,
    Scorer,
    SourceContext,
    Split,
    Strategy,
    hookimpl,
)

if TYPE_CHECKING:
    import optuna


class ToyData(DataSource):
    """Noise of 6 features."""

    name = "toy-data"

    bounded: bool = False

    def load(self, ctx: SourceContext) -> Data:
        generator = torch.Generator().manual_seed(1)

        def split(count: int) -> Split:
            return Split.of_tensors(
                (torch.rand(count, 6, generator=generator),), torch.randint(0, 3, (count,), generator=generator)
            )

        return Data(
            train=split(32),
            validation=split(24),
            test=split(16),
            classes=3,
            normalization=Normalization(mean=(0.5,) * 6, std=(0.3,) * 6),
            bounds=(0.0, 1.0) if self.bounded else None,
        )


class ToyModel(ModelSource):
    """6 → wide → narrow → 3; the groups are the two hidden layers ``wide`` and ``narrow``."""

    name = "toy-model"

    wide: int = 16
    narrow: int = 8

    def build(self, ctx: SourceContext) -> nn.Module:
        class Toy(nn.Module):
            def __init__(toy) -> None:
                super().__init__()
                toy.wide, toy.narrow, toy.head = (
                    nn.Linear(6, self.wide),
                    nn.Linear(self.wide, self.narrow),
                    nn.Linear(self.narrow, 3),
                )

                toy.slope = 1.0

            def forward(toy, x: Tensor) -> Tensor:
                return toy.slope * toy.head(torch.relu(toy.narrow(torch.relu(toy.wide(x)))))

        with torch.random.fork_rng():
            torch.manual_seed(7)
            return Toy()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        if "TOY_TALKS" in os.environ:
            print("the toy talks", flush=True)
            os.write(1, b"and writes\n")
        return self.build(ctx)


class ToyScorer(Scorer):
    """Weight norms."""

    name = "toy-scorer"

    power: int = 1
    fault: Literal["shape", "nan", "raise", "no-tensor", "hurt"] | None = None

    def score(self, group: Group, ctx: ScoreContext) -> Tensor:
        weight = ctx.tensor(f"{group.name}.weight")
        scores = weight.abs().pow(self.power).sum(1)
        if self.fault == "shape":
            return scores[:-1]
        if self.fault == "nan":
            return scores * float("nan")
        if self.fault == "raise":
            raise RuntimeError("no score today")
        if self.fault == "no-tensor":
            return scores.tolist()  # type: ignore[return-value]
        if self.fault == "hurt":
            with torch.no_grad():
                for parameter in ctx.network.parameters():
                    parameter.zero_()
        return scores


class ToyStrategy(Strategy):
    """Cuts the lowest scores; then adds noise from the trial's seed, as a recovery that draws samples would."""

    name = "toy-strategy"

    noise: float = 0.0
    final_noise: float | None = None
    """Of the final version, if there is another."""
    final_fault: Literal["none", "hook"] | None = None
    log: Path | None = None
    """The final version appends a line whenever it prunes."""
    fault: (
        Literal["nothing", "dense", "miscount", "unsorted", "lie", "mask", "none", "hook", "attribute", "ruin"] | None
    ) = None

    def final(self) -> ToyStrategy:
        if self.final_noise is None:
            return self
        changes = {"noise": self.final_noise, "fault": self.final_fault, "final_noise": -1.0}
        return self.model_copy(update=changes)

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        if self.log is not None and self.final_noise == -1.0:
            with self.log.open("a") as file:
                file.write(f"{sorted(candidate.ratios.items())} {ctx.seed} {os.getpid()}\n")
        whole = ctx.start()
        scores = ctx.score(whole)
        kept = {}
        for group in ctx.groups:
            keep = group.units - candidate.cut_units[group.name] - (self.fault == "miscount" and group.name == "wide")
            kept[group.name] = scores[group.name].argsort(descending=True)[:keep].sort().values
        made = {
            "nothing": lambda: whole,
            "dense": lambda: Pruned(ctx.dense, kept),
            "unsorted": lambda: Pruned(ctx.cut(whole, kept).network, {n: index.flip(0) for n, index in kept.items()}),
            "lie": lambda: Pruned(whole.network, kept),
            "none": lambda: None,
        }
        if self.fault in made:
            return made[self.fault]()  # type: ignore[no-any-return, no-untyped-call]
        pruned = ctx.cut(whole, kept)
        self._meddle(pruned.network, ctx.dense)
        with torch.no_grad():
            for parameter in pruned.network.parameters():
                parameter += self.noise * torch.randn_like(parameter)
        return pruned

    def _meddle(self, network: nn.Module, dense: nn.Module) -> None:
        if self.fault == "mask":
            network.register_buffer("mask", torch.ones(3))
        if self.fault == "hook":
            network.wide.register_forward_hook(lambda module, args, out: out * 2)
        if self.fault == "attribute":
            network.slope = 3.0
        if self.fault == "ruin":
            with torch.no_grad():
                dense.wide.weight.zero_()


class ToyShare(ExactEvaluator):
    """Parameters left."""

    name = "toy-share"
    metrics = (Metric("share", "fraction of dense", "minimize", Cost.EXACT),)

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        return {"share": costs.params / dense.params}


class ToyDistance(Evaluator):
    """How far the outputs are from the dense model's, on the split that it is told to use."""

    name = "toy-distance"
    metrics = (Metric("distance", "logits", "minimize", Cost.FORWARD),)

    log: Path | None = None
    """Every evaluation appends a line."""
    fault: (
        Literal[
            "raise",
            "nan",
            "inf",
            "missing",
            "extra",
            "text",
            "exit",
            "kill",
            "hang",
            "memory",
            "interrupt",
            "train",
            "ruin",
            "spoil",
        ]
        | None
    ) = None
    below: float = 1.0
    """The fault shows at models with a smaller share of parameters only."""
    once: bool = False
    """The fault shows at the first such model only, told by the log."""
    seconds: float = 0.0
    only_final: bool = False
    """The fault shows on the test split only."""
    at_dense_test: bool = False
    """The fault shows at the dense model on the test split, too."""
    refuse: bool = False

    def refuses(self, data: Data) -> str | None:
        return "toy-distance needs bounds" if self.refuse and data.bounds is None else None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        # The host's rehearsal, on a handful of samples, shows no fault, is not taken down and takes no time.
        rehearsed = len(ctx.data.split(ctx.split)) <= 8
        faulty = not rehearsed and self._faulty(ctx)
        time.sleep(0 if rehearsed else self.seconds)
        if faulty and (wrong := self._misbehave(model, ctx)) is not None:
            return wrong
        inputs, _ = ctx.data.split(ctx.split).fetch(torch.arange(len(ctx.data.split(ctx.split))))
        with torch.no_grad():
            distance = (inputs.feed(model) - inputs.feed(ctx.dense)).abs().mean().item()
        return {"distance": Measured(value=distance, samples=len(inputs))}

    def _faulty(self, ctx: EvaluationContext) -> bool:
        share = ctx.costs.params / ctx.dense_costs.params
        faulty = self.fault is not None and share < self.below and not (self.only_final and ctx.split != "test")
        faulty |= self.at_dense_test and share == 1 and ctx.split == "test"
        if self.log is not None:
            before = self.log.read_text() if self.log.exists() else ""
            faulty = faulty and not (self.once and "fault" in before)
            with self.log.open("a") as file:
                file.write(f"{ctx.split} {share:.6f} {'fault' if faulty else ''} {os.getpid()}\n")
        return faulty

    def _misbehave(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float] | None:
        match self.fault:
            case "raise":
                raise ValueError("the toy\nbroke")
            case "exit":
                raise SystemExit("leaving")
            case "memory":
                raise MemoryError
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "interrupt":
                signal.raise_signal(signal.SIGINT)
            case "hang":
                time.sleep(60)
            case "ruin":
                with torch.no_grad():
                    ctx.dense.network.wide.weight.zero_()
            case "spoil":
                with torch.no_grad():
                    model.network.wide.bias.add_(1)
            case "train":
                model.train()
                ctx.dense.train()
        wrong: dict[str, Mapping[str, float]] = {
            "nan": {"distance": float("nan")},
            "inf": {"distance": float("inf")},
            "missing": {},
            "extra": {"distance": 1.0, "surprise": 2.0},
            "text": {"distance": "far"},  # type: ignore[dict-item]
        }
        return wrong.get(str(self.fault))


class ToyMode(Evaluator):
    """Whether the model and the dense one came in train mode, and a draw from each global generator."""

    name = "toy-mode"
    metrics = (
        Metric("training", "flag", "minimize", Cost.ATTACK),
        Metric("draw", "number", "minimize", Cost.ATTACK),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        import random

        import numpy as np

        draw = torch.rand(1).item() + 10 * random.random() + 100 * float(np.random.rand())
        return {"training": float(model.training or ctx.dense.training), "draw": draw}


class ToyTogether(Evaluator):
    """How far the front's models are from the dense one on the mean, once they are there."""

    name = "toy-together"
    metrics = (Metric("nothing", "number", "minimize", Cost.ATTACK),)

    log: Path
    """Every front appends a line."""
    fault: Literal["raise", "nan", "number", "ruin"] | None = None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        return {"nothing": 0.0}

    def of_front(self, models: Iterable[nn.Module], ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        inputs, _ = ctx.data.split(ctx.split).fetch(torch.arange(len(ctx.data.split(ctx.split))))
        with torch.no_grad():
            each = [(inputs.feed(model) - inputs.feed(ctx.dense)).abs().mean().item() for model in models]
        before = self.log.read_text() if self.log.exists() else ""
        self.log.write_text(f"{before}{len(each)} models, {len(inputs)} {ctx.split} samples\n")
        match self.fault:
            case "raise":
                raise ValueError("the toy\nbroke")
            case "ruin":
                with torch.no_grad():
                    ctx.dense.network.wide.weight.zero_()
            case "number":
                return 3.0  # type: ignore[return-value]
        value = float("nan") if self.fault == "nan" else sum(each) / len(each)
        return {"mean_distance": Measured(value=value, samples=len(inputs))}


class ToySampler(Sampler):
    """Optuna's random sampler; refuses more objectives than it is told to take."""

    name = "toy-sampler"
    most: int = 9

    def refuses(self, objectives: Mapping[str, str]) -> str | None:
        return f"takes {self.most} objectives, and there are {len(objectives)}" if len(objectives) > self.most else None

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.RandomSampler(seed=ctx.seed)


class ToyGenetic(Sampler):
    """NSGA-II with small generations."""

    name = "toy-genetic"
    population: ClassVar[int] = 4

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.NSGAIISampler(seed=ctx.seed, population_size=self.population)


class ToyProfiled(Sampler):
    """Wants sensitivities, and proposes at random."""

    name = "toy-profiled"
    probe_samples: ClassVar[int] = 16

    def build(self, ctx: SamplerContext) -> optuna.samplers.BaseSampler:
        import optuna

        assert not ctx.history() or set(ctx.sensitivity()) == {"wide", "narrow"}
        return optuna.samplers.RandomSampler(seed=ctx.seed)


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    samplers = ToySampler, ToyGenetic, ToyProfiled
    return ToyData, ToyModel, ToyScorer, ToyStrategy, ToyShare, ToyDistance, ToyTogether, ToyMode, *samplers
