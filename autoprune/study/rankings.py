"""Which scorer ranks each group, how sensitive each group is, and which probe tells most next.

No criterion is best everywhere: which one is differs from layer to layer of one network. So of several scorers each
group is ranked by the one whose cuts of it alone do least harm, by the mean of the logarithms of their divergences.
Probes come coarse to fine, and between the candidates rather than before them all: the first candidates need little,
and many groups would take long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from autoprune.plugin import SearchedGroup, Sensitivity
from autoprune.study.jobs import Cut, Effect

_LEAST = 1e-4
"""Divergence in nats below which it makes no difference."""
_COMPARED = 2
"""How many cuts of a group, by each scorer, scorers are compared by."""


class Rankings:
    """What probes told of the groups so far."""

    def __init__(self, groups: Sequence[SearchedGroup], scorers: Sequence[str], *, sensitivity: bool) -> None:
        """Nothing is known yet.

        Args:
            groups: Those that may lose units, in the order in which they are to be probed.
            scorers: Labels.
            sensitivity: Whether a sampler wants to know how sensitive groups are, too.
        """
        self._groups = groups
        self._scorers = tuple(scorers)
        self._sensitivity = sensitivity
        self._effects: dict[Cut, Effect] = {}

    def learn(self, effects: Iterable[Effect]) -> None:
        """Take what came of probes."""
        self._effects.update((effect.cut, effect) for effect in effects)
        for derived in ("scorers", "sensitivity"):  # every trial asks for them; they change here alone
            self.__dict__.pop(derived, None)

    @property
    def done(self) -> int:
        """Probes so far."""
        return len(self._effects)

    @property
    def total(self) -> int:
        """Probes in all."""
        return sum(self._most(group) for group in self._groups)

    def next(self, count: int, begun: Collection[Cut] = ()) -> list[Cut]:
        """The next probes; fewer where they hang on those that are begun, or none are left.

        Args:
            count: How many.
            begun: What is being probed.
        """
        found: list[Cut] = []
        for cut in self._order():
            if len(found) == count:
                break
            if cut not in self._effects and cut not in begun:
                found.append(cut)
        return found

    @cached_property
    def scorers(self) -> Mapping[str, str]:
        """Per group the label of the scorer that does least harm, as far as that is known; else of the first one."""
        return {group.name: self._best(group) for group in self._groups}

    @cached_property
    def sensitivity(self) -> Mapping[str, Sensitivity]:
        """Per group what was measured, by its scorer."""
        found = {}
        for group in self._groups:
            effects = self._measured(group, self.scorers[group.name])
            if effects:
                effects.sort(key=lambda effect: effect.cut.units)
                found[group.name] = Sensitivity(
                    cut_units=tuple(effect.cut.units for effect in effects),
                    divergence=tuple(effect.divergence for effect in effects),
                    agreement=tuple(effect.agreement for effect in effects),
                )
        return found

    def _order(self) -> Iterator[Cut]:
        """Every probe, coarse to fine; the finest ones are of the best scorer alone."""
        for place in range(max((len(cuts(group)) for group in self._groups), default=0)):
            compared = place < _COMPARED and len(self._scorers) > 1
            for scorer in self._scorers if compared else (None,):
                for group in self._groups:
                    units = cuts(group)[place : place + 1]
                    if units and (compared or self._wanted(group)):
                        yield Cut(scorer=scorer or self.scorers[group.name], group=group.name, units=units[0])

    def _wanted(self, group: SearchedGroup) -> bool:
        return self._sensitivity and group.fewest < group.most

    def _most(self, group: SearchedGroup) -> int:
        count = len(cuts(group))
        compared = min(_COMPARED, count) * len(self._scorers) if len(self._scorers) > 1 else 0
        beyond = max(0, count - _COMPARED) if compared else count
        return compared + (beyond if self._wanted(group) else 0)

    def _best(self, group: SearchedGroup) -> str:
        """Of the scorers that could rank it, by the cuts that all of them made."""
        measured = {label: self._measured(group, label)[:_COMPARED] for label in self._scorers}
        measured = {label: effects for label, effects in measured.items() if effects}
        if not measured:
            failed = {e.cut.scorer for e in self._effects.values() if e.cut.group == group.name}
            return next((label for label in self._scorers if label not in failed), self._scorers[0])
        shared = min(len(effects) for effects in measured.values())
        harm = {
            label: sum(math.log(max(effect.divergence, _LEAST)) for effect in effects[:shared])
            for label, effects in measured.items()
        }
        return min(harm, key=lambda label: harm[label])

    def _measured(self, group: SearchedGroup, scorer: str) -> list[Effect]:
        """In the order of the probes."""
        made = (self._effects.get(Cut(scorer=scorer, group=group.name, units=units)) for units in cuts(group))
        return [effect for effect in made if effect is not None and effect.reason is None]


def cuts(group: SearchedGroup) -> list[int]:
    """Units that the probes of a group cut, in the order of what they tell: two thirds of what may go, all, a third."""
    most, step = group.most, group.step
    return list(dict.fromkeys(max(1, round(share * most / step)) * step for share in (2 / 3, 1.0, 1 / 3)))
