"""Groups and the bounds of their ratios, as the spec's patterns give them."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

from autoprune.errors import Mistake
from autoprune.plugin import Group
from autoprune.spec import GroupRange, Spec
from autoprune.structure import Structure


@dataclass(frozen=True)
class BoundedGroup:
    """A group and the bounds of its pruning ratio."""

    group: Group
    low: float
    high: float

    @property
    def cuts(self) -> tuple[int, int]:
        """Fewest and most units that go: whole steps of the group within the bounds, and at least one unit stays.

        Bounds that hold no whole number of steps between them give the nearest one.
        """
        units, step = self.group.units, self.group.step
        last = (units - 1) // step
        fewest = math.ceil(self.low * units / step - 1e-9)
        most = min(math.floor(self.high * units / step + 1e-9), last)
        if fewest > most:
            fewest = most = min(_nearest(self.low * units / step), last)
        return fewest * step, most * step

    @property
    def searched(self) -> bool:
        """Whether there is anything to choose."""
        fewest, most = self.cuts
        return fewest < most

    def cut(self, ratio: float) -> int:
        """The whole number of steps nearest to a ratio, in units, within the bounds."""
        fewest, most = self.cuts
        step = self.group.step
        return min(max(_nearest(ratio * self.group.units / step) * step, fewest), most)


def bounded(spec: Spec, structure: Structure) -> tuple[tuple[BoundedGroup, ...], list[Mistake]]:
    """The groups with their bounds, and what is wrong with the patterns that give them.

    A pattern speaks for a group if it matches its name or one of its layers; of several patterns the last counts.
    """
    default = spec.search_space.ratio
    bounds = {group.name: (default.low, default.high) for group in structure.groups}
    mistakes = []
    for pattern, own in spec.search_space.groups.items():
        path = ("search_space", "groups", pattern)
        matched = [g for g in structure.groups if any(fnmatchcase(name, pattern) for name in (g.name, *g.layers))]
        if not matched and (reason := _unmatched(pattern, structure, keep=own == "keep")):
            mistakes.append(spec.document.mistake(path, reason))
        limits = (0.0, 0.0) if own == "keep" else _merged(own, default.low, default.high)
        bounds |= {group.name: limits for group in matched}
    return tuple(BoundedGroup(group, *bounds[group.name]) for group in structure.groups), mistakes


def _merged(own: GroupRange, low: float, high: float) -> tuple[float, float]:
    return low if own.low is None else own.low, high if own.high is None else own.high


def _unmatched(pattern: str, structure: Structure, *, keep: bool) -> str | None:
    """Why no group is matched; None where that is all right, since the layers are kept anyway."""
    layers = [layer for layer in structure.layers if fnmatchcase(layer, pattern)]
    if not layers:
        inner = [layer for layer in structure.layers if layer.startswith(f"{pattern}.")]
        close = [f"{pattern}.*"] if inner else difflib.get_close_matches(pattern, structure.layers, n=1)
        some = ", ".join(structure.layers[:8]) + (", …" if len(structure.layers) > 8 else "")
        hint = f"did you mean {close[0]!r}?" if close else f"its layers: {some}"
        return f"no layer of the model is called so; {hint}"
    if keep:
        return None
    reasons = dict.fromkeys(uncut.reason for uncut in structure.uncut if uncut.layer in layers)
    return f"{layers[0]} has no units that can be cut: {'; '.join(reasons) or 'it makes none'}"


def _nearest(units: float) -> int:
    return math.floor(units + 0.5)
