"""A package of a third party: it is installed, and brings its components by the hook."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from autoprune import hookimpl
from autoprune.plugin import (
    Candidate,
    Choice,
    Choices,
    Component,
    Costs,
    Data,
    DataSource,
    Executor,
    Knob,
    LayerCosts,
    ModelSource,
    PruneContext,
    Pruned,
    Recoveries,
    SourceContext,
    Split,
    Strategy,
    Task,
    Transform,
    TransformContext,
    Workers,
    Workplace,
)
from autoprune.toolkit.training import Training, train

if TYPE_CHECKING:
    from torch import Tensor, nn

_SIZES = {"train": 96, "validation": 48, "test": 48}


class Pairs(DataSource):
    """Two measurements of a thing, by name, and its class, or the several classes that it has."""

    name = "acme-pairs"

    labels: Literal["one", "several"] = "one"

    def load(self, ctx: SourceContext) -> Data:
        import torch

        generator = torch.Generator().manual_seed(11)
        teacher = torch.randn(6, 4, generator=generator)

        def split(count: int) -> Split:
            size, colour = (torch.rand(count, n, generator=generator) for n in (4, 2))
            said = torch.cat([size, colour], 1) @ teacher
            targets = said.argmax(1) if self.labels == "one" else (said > said.median()).float()
            return Split.of_tensors({"size": size, "colour": colour}, targets)

        splits = {name: split(count) for name, count in _SIZES.items()}
        return Data(**splits, classes=4 if self.labels == "one" else None)


class Net(ModelSource):
    """Reads the two measurements by name; briefly trained where there are classes."""

    name = "acme-net"

    def build(self, ctx: SourceContext) -> nn.Module:
        import torch
        from acme_net import AcmeNet

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return AcmeNet()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        import torch
        from torch.nn import functional

        network = self.build(ctx)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        with torch.enable_grad():
            for _ in range(20):
                for inputs, targets in data.train.batches(96):
                    outputs = inputs.feed(network)
                    several = targets.is_floating_point()
                    loss = (functional.binary_cross_entropy_with_logits if several else functional.cross_entropy)(
                        outputs, targets
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        optimizer.zero_grad()
        return network


class Adaptive(Strategy):
    """Moves units to cut from the group that minds most to the one that minds least, as the validation split tells."""

    name = "acme-adaptive"
    allocates = True

    moves: int = Field(default=2, ge=0)
    recover: Recoveries = Field(default=())

    def prune(self, candidate: Candidate, ctx: PruneContext) -> Pruned:
        whole = ctx.start()
        scores = ctx.score(whole)
        cut_units = dict(candidate.cut_units)
        for _ in range(self.moves):
            cuts = {name: units for name, units in cut_units.items() if units}
            harm = {n: self._loss(ctx, ctx.cut(whole, ctx.select(scores, {n: units}))) for n, units in cuts.items()}
            if len(harm) < 2:
                break
            most, least = max(harm, key=harm.__getitem__), min(harm, key=harm.__getitem__)
            (group,) = [group for group in ctx.groups if group.name == least]
            if cut_units[least] + 1 < group.units:
                cut_units[most] -= 1
                cut_units[least] += 1
        pruned = ctx.cut(whole, ctx.select(scores, cut_units))
        for recovery in self.recover:
            recovery.recover(pruned, ctx)
        return pruned

    def _loss(self, ctx: PruneContext, pruned: Pruned) -> float:
        import torch

        predictor = ctx.predictor(pruned.network)
        with torch.no_grad():
            batches = ctx.data.validation.batches(64, device=ctx.device)
            return float(torch.cat([ctx.task.loss(i.feed(predictor), t) for i, t in batches]).mean())


class Gates(Training, Transform):
    """Multiplies the outputs of layers by gates, which are learnt on the train split; the search chooses the layers."""

    name = "acme-gates"

    layers: tuple[str, ...]
    lr: float = 0.1

    def knobs(self, network: nn.Module) -> Sequence[Knob]:
        return [Choice(name, ("bare", "gated")) for name in self.layers]

    def apply(self, network: nn.Module, choice: Choices, ctx: TransformContext) -> nn.Module:
        network = self.rebuild(network, choice)
        if not (gated := self._gated(choice)):
            return network
        needed = {parameter: parameter.requires_grad for parameter in network.parameters()}
        network.requires_grad_(False)
        for name in gated:
            network.get_submodule(name).gate.requires_grad_(True)  # type: ignore[union-attr,operator]
        train(network, ctx, self)
        for parameter, flag in needed.items():
            parameter.requires_grad_(flag)
        return network

    def rebuild(self, network: nn.Module, choice: Choices) -> nn.Module:
        from acme_net import Gated

        for name in self._gated(choice):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, Gated(network.get_submodule(name)))
        return network

    def costs(self, layers: Mapping[str, LayerCosts], choice: Choices) -> Mapping[str, LayerCosts]:
        return {name: _gated(layers[name]) for name in self._gated(choice)}

    def _gated(self, choice: Choices) -> list[str]:
        return [name for name in self.layers if choice.get(name) == "gated"]


def _gated(layer: LayerCosts) -> LayerCosts:
    costs, (units, _) = layer.costs, layer.shapes["weight"]
    shapes = {f"layer.{name}": shape for name, shape in layer.shapes.items()} | {"gate": (units,)}
    more = Costs(costs.params + units, costs.macs, costs.bytes + 4 * units, costs.nonzero + units)
    return replace(layer, kind="Gated", shapes=shapes, costs=more)


class MultiLabel(Task):
    """Several classes per sample: outputs are logits (N, C), targets 0 or 1, float (N, C)."""

    name = "acme-multi-label"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)

    def divergence(self, outputs: Tensor, dense: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        ours, theirs = outputs.double(), dense.double()
        there, not_there = theirs.sigmoid(), (-theirs).sigmoid()
        apart = there * (logsigmoid(theirs) - logsigmoid(ours)) + not_there * (logsigmoid(-theirs) - logsigmoid(-ours))
        return apart.mean(1).clamp_min(0)

    def agreement(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return ((outputs > 0) == (dense > 0)).float().mean(1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs > 0) == (targets > 0.5)).float().mean(1)

    def refuses(self, outputs: Tensor, targets: Any, data: Data) -> str | None:
        same = getattr(targets, "shape", None) == outputs.shape
        return None if same else f"targets are to be of the shape of the outputs, {tuple(outputs.shape)}"


class Threads(Executor):
    """A pool of threads. The host does one job of a process at a time, so they gain nothing; they prove the seam."""

    name = "acme-threads"

    def open(self, workplace: Workplace) -> Workers:
        return _Pool(workplace)


class _Pool:
    def __init__(self, workplace: Workplace) -> None:
        self.capacity = workplace.capacity
        self._workplace = workplace
        self._pool = ThreadPoolExecutor(workplace.capacity, thread_name_prefix="acme")
        self._results: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: list[Future[None]] = []

    def submit(self, job: str) -> None:
        self._running.append(self._pool.submit(self._do, job))

    def next(self) -> str:
        return self._results.get()

    def cancel(self) -> None:
        for future in self._running:
            future.cancel()

    def close(self) -> None:
        self._pool.shutdown()

    def _do(self, job: str) -> None:
        self._results.put(self._workplace.perform(job))


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    return list(_components())


def _components() -> Iterator[type[Component]]:
    yield from (Pairs, Net, Adaptive, Gates, MultiLabel, Threads)
