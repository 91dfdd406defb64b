"""What the host hands to a component besides its own options.

The host owns what every plugin would otherwise repeat: copies, ``eval()``, device, seeds, caches, checks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from autoprune.errors import TrialError
from autoprune.plugin.data import Data, Normalization, SplitName
from autoprune.plugin.knobs import Choices, Knob
from autoprune.plugin.pruned import Pruned
from autoprune.plugin.task import Task
from autoprune.plugin.values import Costs, Direction, Group, Measured, Metric, SearchedGroup, Sensitivity

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from autoprune.plugin.results import TrialResult
    from autoprune.spec import Bound

T = TypeVar("T")


@dataclass(frozen=True)
class SourceContext:
    """For model and data sources."""

    folder: Path
    """Folder of the spec: relative paths start here, and import paths are looked up here first."""
    cache: Path
    """Folder for what is worth keeping between searches (a model trained on the spot)."""
    seed: int
    objects: Mapping[str, Any] = field(default_factory=dict)
    """Python objects that were handed to the search, by name: what a spec calls ``live``."""


@dataclass(frozen=True, kw_only=True)
class _Remembering:
    seed: int
    """Of the study for scorers and evaluators, so that all candidates meet the same noise; of the trial for strategies
    and recoveries; of the draw for samplers."""
    cache: MutableMapping[Hashable, Any] = field(default_factory=dict, repr=False)
    """Lives as long as the study's process (a scorer's: as long as its copy of the model), so nothing that belongs to
    one candidate may go in. Use it through `memo`."""

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """``compute()``, once per key: for what all groups or trials share (gradients, batches on the device)."""
        if key not in self.cache:
            self.cache[key] = compute()
        return cast("T", self.cache[key])


@dataclass(frozen=True, kw_only=True)
class Context(_Remembering):
    """Common to scorers, strategies, recoveries, transforms and evaluators."""

    device: torch.device
    data: Data
    task: Task
    """What right means; asked for losses, divergences and right answers."""

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh random generator, seeded by ``seed``."""
        import torch

        return torch.Generator(device).manual_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class ScoreContext(Context):
    """For scorers."""

    model: nn.Module
    """Predicts the task's tensor from inputs in input units; a copy for scorers, in ``eval()``, whose gradients may be
    used.

    Images may go through with their channels last: what hooks see is for ``reshape``, not for ``view``."""
    network: nn.Module
    """The bare network inside ``model``: its parameters carry the names that slices speak of."""
    groups: tuple[Group, ...]
    """All groups that are scored, for what can be computed for all of them at once."""

    def tensor(self, name: str) -> Tensor:
        """The parameter or buffer of that name, detached."""
        tensors: dict[str, Tensor] = self.memo(
            "tensors", lambda: {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        )
        return tensors[name].detach()


@dataclass(frozen=True, kw_only=True)
class PruneContext(Context):
    """For strategies and recoveries: a pruning session. Scores, cuts and training are of the *current* network.

    Example:
        >>> pruned = ctx.start()
        >>> scores = ctx.score(pruned)
        >>> pruned = ctx.cut(pruned, ctx.select(scores, candidate.cut_units))
    """

    groups: tuple[Group, ...]
    """The groups that may lose units, as they are in the dense network."""
    dense: nn.Module = field(repr=False)
    """The bare dense network, in ``eval()``; not to be changed."""
    build: Callable[[], nn.Module]
    """The untrained architecture, bare, on the device: for pruning at initialisation."""
    start: Callable[[], Pruned]
    """A copy of the dense network, nothing cut. It is made when its ``network`` is first asked for."""
    score: Callable[[Pruned], Mapping[str, Tensor]]
    """Importance of every unit of every group, (U,) per group, by the scorers that rank the groups in this trial, on
    the weights as they are now; minus infinity for units that are gone."""
    select: Callable[[Mapping[str, Tensor], Mapping[str, int]], Mapping[str, Tensor]]
    """Importance per group, (U,), and the number of units that go per group, counted from the dense network, to the
    units that stay: the best ones. Weights and kernels are chosen, in the same proportion, among those that other cuts
    leave."""
    cut: Callable[[Pruned, Mapping[str, Tensor]], Pruned]
    """Kept units per group, as ``select`` gives them (a group left out stays as it is), to a smaller copy with the
    current weights. Cuts compose: what is kept must be among what was."""
    rows: Callable[[Pruned, str], Tensor]
    """Name of a layer to the indices of its outputs in the dense network that stayed, int64, ascending."""
    once: Callable[[str, Callable[[], Mapping[str, Tensor]]], Mapping[str, Tensor]]
    """A key and what makes tensors, to those tensors, on the CPU: made once in the study's life, by one of its workers,
    and kept in its folder. The key has to tell all that they hang on but model, data and study's seed."""
    predictor: Callable[[nn.Module], nn.Module]
    """Wraps a bare network so that it takes inputs in input units and returns the task's tensor; shares its
    parameters."""


@dataclass(frozen=True, kw_only=True)
class TransformContext(Context):
    """For transforms."""

    dense: nn.Module = field(repr=False)
    """The bare dense network, in ``eval()``; not to be changed."""
    predictor: Callable[[nn.Module], nn.Module]
    """Wraps a bare network so that it takes inputs in input units and returns the task's tensor; shares its
    parameters."""


@dataclass(frozen=True, kw_only=True)
class ExportContext:
    """For exporters."""

    normalization: Normalization | None
    """What belongs in front of the network: it takes normalised inputs."""
    task: Task


@dataclass(frozen=True, kw_only=True)
class ObserverContext(_Remembering):
    """For observers."""

    folder: Path
    """Its own, in the study's; exists."""


def _to_nobody(measured: Mapping[str, Measured]) -> None:
    pass


def _of_no_source(seed: int) -> nn.Module:
    raise TrialError(f"there is no model source here to build an untrained model with seed {seed}")


def _for_nobody_else(key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:  # noqa: ARG001
    return make()


@dataclass(frozen=True, kw_only=True)
class EvaluationContext(Context):
    """For evaluators."""

    split: SplitName
    """``validation`` during the search, ``test`` when the front is measured again."""
    dense: nn.Module
    """The dense model, in ``eval()``, for what is measured in turn with it."""
    costs: Costs
    """Exact arithmetic of the candidate."""
    dense_costs: Costs
    of_dense: bool = False
    """Whether the dense model itself is measured."""
    build: Callable[[int], nn.Module] = _of_no_source
    """A seed to the dense architecture with the weights that its source begins with, which should be random ones of
    that seed; predicts as ``dense`` does. A new one each time: train it, change it."""
    once: Callable[[str, Callable[[], Mapping[str, Tensor]]], Mapping[str, Tensor]] = _for_nobody_else
    """A key and what makes tensors, to those tensors, on the CPU: made once in the study's life, by one of its workers,
    and kept in its folder. The key has to tell all that they hang on but model, data and study's seed, so the
    ``split``, too, if they hang on that."""
    source: SourceContext = field(default_factory=lambda: SourceContext(folder=Path(), cache=Path(), seed=0))
    """Where files, modules and Python objects are that its options name."""
    report: Callable[[Mapping[str, Measured]], None] = _to_nobody
    """Tell what is known of the metrics so far, by their declared names, with intervals and from samples in random
    order. A candidate that cannot reach the front any more is given up then, by an exception; let it pass."""


@dataclass(frozen=True, kw_only=True)
class SamplerContext(_Remembering):
    """For samplers. Optuna's study holds the trials, too; here is what it cannot know about a model.

    Shapes use: N candidates, G groups.
    """

    objectives: Mapping[str, Direction]
    constraints: Mapping[str, Bound]
    metrics: Mapping[str, Metric]
    """What can be measured, by the names that objectives and constraints use."""
    groups: tuple[SearchedGroup, ...]
    """All groups of the model, those that stay whole included."""
    knobs: tuple[Knob, ...]
    """What is chosen besides the groups' ratios: strategies, options of components, ranks of layers."""
    meetings: tuple[tuple[int, ...], ...]
    """Numbers of the groups whose cuts multiply in a cost, such as the input and the output of a convolution; costs
    are sums over such meetings."""
    costs: Callable[[NDArray[np.int64], Sequence[Choices] | None], Mapping[str, NDArray[np.float64]]]
    """Units that go, (N, G), and the knobs of each candidate (the usual ones if None), to ``params``, ``macs``,
    ``bytes``, ``nonzero`` and every metric that is arithmetic alone, (N,) each."""
    priced: frozenset[str]
    """Names of the knobs that change those costs: what transforms choose. Others need not be given."""
    sensitivity: Callable[[], Mapping[str, Sensitivity]]
    """Per group what is known of its sensitivity by now, as its scorer ranks it; empty unless the sampler has
    ``probe_samples``. More is measured between the candidates."""
    history: Callable[[], Sequence[TrialResult]]
    """Finished trials by number."""
    pending: Callable[[], Mapping[int, Mapping[str, float | str]]]
    """Number to parameters of the trials that are running now, the one that is asked for among them: after a crash it
    may have some already."""
