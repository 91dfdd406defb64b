"""The likelihood ratio attack: how sure a model is of a sample, beside models that never saw it.

Carlini et al., *Membership inference attacks from first principles*, arXiv:2112.03570, offline. Shapes use: M members,
N others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Batch, EvaluationContext, Inputs, Split, Task
from autoprune.plugin.data import mapped
from autoprune.toolkit.samples import losses
from autoprune.toolkit.training import Training
from autoprune_evaluators._afresh import trained

_MANY = 64
"""Shadow models from which on each sample has a variance of its own; below, one for all does better (section VI-A)."""
_SIDES = ("members", "others")
_SEEDS = 1_000_003
"""Between the seeds of two pairs, so that those of neighbouring studies differ."""


@dataclass(frozen=True)
class Outside:
    """How sure shadow models are of samples of one split that they were not trained on."""

    mean: Tensor
    """Of each sample, (N,) float64."""
    variance: Tensor
    """Of each sample, (N,) float64; with Bessel's correction."""

    def scores(self, confidence: Tensor, deviation: Tensor) -> Tensor:
        """By how many deviations a model is surer of samples, (N,), than those models: ``norm.ppf`` of the ratio."""
        return (confidence - self.mean) / deviation


@dataclass(frozen=True)
class Shadows:
    """What is known of members and others from the models that did not see them."""

    members: Outside
    others: Outside
    count: int
    """Of shadow models."""

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], count: int) -> Shadows:
        """What `tensors` gave."""
        members, others = (Outside(tensors[f"{side}_mean"], tensors[f"{side}_variance"]) for side in _SIDES)
        return cls(members, others, count)

    def tensors(self) -> dict[str, Tensor]:
        """All that was measured, by name, to be kept."""
        sides = dict(zip(_SIDES, (self.members, self.others), strict=True))
        return {f"{side}_{name}": tensor for side, of in sides.items() for name, tensor in vars(of).items()}

    def scores(self, members: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Of confidences, (M,) and (N,), float64: higher for what is taken for a member."""
        own = [self.members.variance, self.others.variance]
        if self.count < _MANY:
            pooled = torch.cat(own).mean()
            own = [pooled.expand_as(each) for each in own]
        if not all(bool((each > 0).all()) for each in own):
            raise TrialError(
                "membership-inference: shadow models are all equally sure of a sample: ask for more shadows"
            )
        mine, theirs = (each.sqrt() for each in own)
        return self.members.scores(members, mine), self.others.scores(others, theirs)


def confidence(name: str, task: Task, outputs: Any, targets: Any) -> Tensor:
    """The logit of the true class, log p/(1 − p) of each sample, (N,) float64, where the task's loss is −log p.

    Raises:
        TrialError: Losses are below 0: they are of no probability.
    """
    wide = lambda t: t.double() if t.is_floating_point() else t  # noqa: E731  or most members would have a loss of 0
    loss = losses(task, mapped(wide, outputs), mapped(wide, targets))
    if bool((loss < 0).any()):
        raise TrialError(f"{name}: a loss of task {task.name} is below 0; lira needs 0 or more: use attack: loss")
    loss = loss.clamp_min(1e-16)  # what float64 tells from 0
    return -(loss + torch.log(-torch.expm1(-loss)))


def shadows(
    ctx: EvaluationContext,
    *,
    name: str,
    count: int,
    options: Training,
    seconds: float,
    measured: Callable[[nn.Module], tuple[Tensor, Tensor]],
    rows: tuple[Tensor, Tensor],
    head: str = "",
) -> Shadows:
    """Train pairs of models of the dense architecture, each on one random half of train and measured split together.

    Of each pair one model has not seen a given sample.

    Args:
        ctx: The data; the split that is measured.
        name: Who asks, for messages.
        count: Of models, even.
        options: How each is trained.
        seconds: What all may take.
        measured: A model to its confidences of members, (M,), and of others, (N,).
        rows: Which rows of the train split these are, (M,), and of the measured one, (N,).
        head: Of several outputs by name, the one that is measured.

    Raises:
        TrialError: They would take longer, or no untrained copy of the dense model can be made.
    """
    splits = (ctx.data.train, ctx.data.split(ctx.split))
    seen: tuple[list[Tensor], list[Tensor]] = ([], [])
    begun = time.monotonic()
    for pair in range(count // 2):
        seed = ctx.seed + _SEEDS * pair
        generator = torch.Generator().manual_seed(seed)
        order = [torch.randperm(len(split), generator=generator) for split in splits]
        first = [torch.zeros(len(split), dtype=torch.bool) for split in splits]
        for mask, each in zip(first, order, strict=True):
            mask[each[: len(each) // 2]] = True
        confidences = []
        for half in (first, [~mask for mask in first]):
            parts = [split.part(mask.nonzero()[:, 0]) for split, mask in zip(splits, half, strict=True)]
            model = trained(ctx, joined(*parts), options, seed=seed, what=name, head=head)
            confidences.append(measured(model))
        for side, mask in enumerate(first):
            inside = mask[rows[side]]
            seen[side].append(torch.where(inside, confidences[1][side], confidences[0][side]))
        needed = (time.monotonic() - begun) / (pair + 1) * (count // 2)
        if needed > seconds:
            raise TrialError(
                f"{name}: {count} shadow models take about {needed:.3g} s, more than seconds: {seconds:g}; allow them"
                " more, or ask for fewer shadows or epochs"
            )
    sides = [torch.stack(each) for each in seen]
    members, others = (Outside(each.mean(0), each.var(0)) for each in sides)
    return Shadows(members, others, count)


def joined(*splits: Split) -> Split:
    """The samples of splits one after the other; a batch holds those of each together."""
    ends = torch.tensor([len(split) for split in splits]).cumsum(0)

    def read(index: Tensor) -> tuple[Any, Any]:
        of = torch.bucketize(index, ends, right=True)
        parts = [(split, index[of == n] - (ends[n] - len(split))) for n, split in enumerate(splits)]
        return _together([split.fetch(rows) for split, rows in parts if len(rows)])

    return Split(int(ends[-1]), read)


def _together(batches: Iterable[Batch]) -> Batch:
    inputs, targets = zip(*batches, strict=True)
    args = tuple(torch.cat(each) for each in zip(*(one.args for one in inputs), strict=True))
    kwargs = {key: torch.cat([one.kwargs[key] for one in inputs]) for key in inputs[0].kwargs}
    if isinstance(targets[0], torch.Tensor):
        return Inputs(args, kwargs), torch.cat(targets)
    return Inputs(args, kwargs), {key: torch.cat([each[key] for each in targets]) for key in targets[0]}
