"""What strategies that cut in several stages share: how many units are gone by then, and the recoveries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoprune.plugin import Data, Group, PruneContext, Pruned, Recovery

Gone = Callable[[int, int], float]
"""Units of a group and how many go in the end, to how many are to be gone by a stage."""


def linear(done: float) -> Gone:
    """Equally many more units in every stage.

    Args:
        done: Share of the stages that are done after this one, (0, 1].
    """
    return lambda units, cut: cut * done  # noqa: ARG005  of any size


def geometric(done: float) -> Gone:
    """The same share of the units that are left in every stage.

    Args:
        done: Share of the stages that are done after this one, (0, 1].
    """
    return lambda units, cut: units - units * (max(units - cut, 1) / units) ** done


def cubic(done: float) -> Gone:
    """Many units early, few late: of those that go in the end 1 - (1 - t)³ are gone at t.

    Zhu & Gupta, "To prune, or not to prune", arXiv:1710.01878, equation 1 with an initial sparsity of 0.

    Args:
        done: The t, (0, 1].
    """
    return lambda units, cut: cut * (1 - (1 - done) ** 3)  # noqa: ARG005  of any size


def stages(
    groups: Iterable[Group], cut_units: Mapping[str, int], schedule: Callable[[float], Gone], count: int
) -> list[dict[str, int]]:
    """Units that are gone after each stage, per group: never fewer than before, and in the end exactly what is asked.

    Where weights or kernels go beside whole channels, they go in the last stage: a share of what channels leave.

    Args:
        groups: Those that may lose units.
        cut_units: Units that go in the end, per group.
        schedule: Share of the stages that are done to what is gone then.
        count: Number of stages.
    """
    asked = [group for group in groups if cut_units.get(group.name)]
    if not all(group.masked for group in asked):
        asked = [group for group in asked if not group.masked]
    planned = []
    for stage in range(1, count):
        gone = schedule(stage / count)
        counts = {g.name: _in_steps(gone(g.units, cut_units[g.name]), g.step) for g in asked}
        planned.append({name: min(number, cut_units[name]) for name, number in counts.items()})
    return [*planned, dict(cut_units)]


def _in_steps(units: float, step: int) -> int:
    return round(units / step) * step


def cut_further(pruned: Pruned, gone: Mapping[str, int], ctx: PruneContext) -> Pruned:
    """The network less the worst units by the scores of its weights as they are now."""
    return ctx.cut(pruned, ctx.select(ctx.score(pruned), gone))


def recovered(pruned: Pruned, recoveries: Iterable[Recovery], ctx: PruneContext, *, stage: int = 0) -> None:
    """Run the recoveries one after the other.

    Args:
        pruned: Whose network they change.
        recoveries: May be none.
        ctx: The strategy's.
        stage: Number of it. Each has a seed of its own, or short trainings would see the same samples every time.
    """
    staged = replace(ctx, seed=ctx.seed + stage)
    for recovery in recoveries:
        recovery.recover(pruned, staged)


def refusal(data: Data, *recoveries: Sequence[Recovery]) -> str | None:
    """Why one of the recoveries cannot recover a model on that data; None when all can."""
    reasons = ((each.name, each.refuses(data)) for several in recoveries for each in several)
    return next((f"{name}: {reason}" for name, reason in reasons if reason), None)
