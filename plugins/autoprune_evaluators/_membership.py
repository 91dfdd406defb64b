"""What an attacker makes of a model's outputs, and how well it tells members from others.

Shapes use: M members, N others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from autoprune.plugin import Difference, Measured, Task
from autoprune.toolkit import intervals
from autoprune.toolkit.ranks import Separation
from autoprune_evaluators._classes import check_classes

_RESAMPLES = 1000


@dataclass(frozen=True)
class Scores:
    """Scores, higher for what is taken for a member."""

    members: Tensor
    """Of the training split, (M,)."""
    others: Tensor
    """Of a split that was not trained on, (N,)."""

    def measured(self, dense: Scores | None) -> Mapping[str, Measured]:
        """Area and advantage.

        Args:
            dense: The dense model's, of the same samples.
        """
        mine = self._separation()
        auc, advantage = mine.auc(), self._advantage()
        if dense is not None:
            auc = auc.model_copy(update={"difference": mine.difference(dense._separation())})
            advantage = advantage.model_copy(update={"difference": _less(self._caught(), dense._caught())})
        return {"membership_auc": auc, "membership_advantage": advantage}

    def turned(self) -> Scores:
        """The same question about others: higher for what is taken for no member."""
        return Scores(-self.others, -self.members)

    def _separation(self) -> Separation:
        return Separation.of(self.members, self.others)

    def _caught(self) -> tuple[Tensor, Tensor]:
        """Which are taken for members, (M,) and (N,): of each half by the best threshold of the other one."""
        found = []
        for half in (0, 1):
            known = self.members[1 - half :: 2], self.others[1 - half :: 2]
            threshold = _best_threshold(*known)
            found.append([scores[half::2] > threshold for scores in (self.members, self.others)])
        caught = []
        for side, scores in enumerate((self.members, self.others)):
            whole = torch.empty(len(scores), dtype=torch.float64)
            for half in (0, 1):
                whole[half::2] = found[half][side].double()
            caught.append(whole)
        return caught[0], caught[1]

    def _advantage(self) -> Measured:
        members, others = self._caught()
        value = float(members.mean() - others.mean())
        half = intervals.half_of_two(members, others)
        samples = len(members) + len(others)
        return Measured(value=value, low=max(-1.0, value - half), high=min(1.0, value + half), samples=samples)

    def found_at(self, rates: Sequence[float], dense: Scores | None) -> list[Measured]:
        """Members above the threshold that so many others pass, for each rate, with a bootstrap's interval over both.

        Args:
            rates: Of others that are taken for members.
            dense: The dense model's, of the same samples.
        """
        generator = torch.Generator().manual_seed(0)
        each = (self,) if dense is None else (self, dense)
        values = [_rates(scores.members, scores.others, rates) for scores in each]
        drawn = []
        for _ in range(_RESAMPLES):
            picked = [torch.randint(len(s), (len(s),), generator=generator) for s in (self.members, self.others)]
            drawn.append([_rates(s.members[picked[0]], s.others[picked[1]], rates) for s in each])
        samples = len(self.members) + len(self.others)
        found = []
        for n in range(len(rates)):
            mine = intervals.percentiles(values[0][n], [draw[0][n] for draw in drawn], samples=samples)
            if dense is not None:
                apart = [draw[0][n] - draw[1][n] for draw in drawn]
                less = intervals.percentiles(values[0][n] - values[1][n], apart, samples=samples)
                difference = Difference(value=less.value, low=less.low, high=less.high)
                mine = mine.model_copy(update={"difference": difference})
            found.append(mine)
        return found


def certainty(name: str, task: Task, outputs: Any, targets: Any) -> Tensor:
    """Minus the modified entropy of each sample's prediction, (N,).

    Raises:
        TrialError: Outputs are not (N, C) scores with one class each as targets.
    """
    check_classes(
        name, "needs one class per sample for modified-entropy", task, outputs, targets, mend="use attack: loss"
    )
    logs = functional.log_softmax(outputs.double(), dim=1)
    shares = logs.exp()
    others = torch.log1p(-shares.clamp(max=1 - 1e-15))  # log of what is left beside each class
    true = targets[:, None]
    entropy = -(shares * others).sum(1) + (shares * others).gather(1, true)[:, 0]
    entropy = entropy - ((1 - shares) * logs).gather(1, true)[:, 0]
    return -entropy


def _best_threshold(members: Tensor, others: Tensor) -> float:
    """Above which members are found most often less others; infinite where no score tells."""
    scores = torch.cat([members, others]).double()
    gain = torch.cat([torch.full((len(members),), 1 / len(members)), torch.full((len(others),), -1 / len(others))])
    order = scores.argsort(descending=True, stable=True)
    ordered, total = scores[order], gain.double()[order].cumsum(0)
    last = torch.ones(len(ordered), dtype=torch.bool)
    last[:-1] = ordered[:-1] != ordered[1:]  # a threshold lies between scores that differ
    total = total.where(last, -math.inf)
    best = int(total.argmax())
    if float(total[best]) <= 0:
        return math.inf
    below = ordered[best + 1] if best + 1 < len(ordered) else ordered[best] - 1
    return float((ordered[best] + below) / 2)


def _rates(members: Tensor, others: Tensor, rates: Sequence[float]) -> list[float]:
    """Members above the score that a share of others exceeds, for each share."""
    places = [int(rate * len(others)) for rate in rates]
    highest = others.topk(max(places) + 1).values
    return [float((members > highest[place]).double().mean()) for place in places]


def _less(mine: tuple[Tensor, Tensor], dense: tuple[Tensor, Tensor]) -> Difference:
    members, others = (a - b for a, b in zip(mine, dense, strict=True))
    value, half = float(members.mean() - others.mean()), intervals.half_of_two(members, others)
    return Difference(value=value, low=value - half, high=value + half)
