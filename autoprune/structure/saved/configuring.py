"""The configuration of transformers that tells a pruned network's sizes, where there is one.

Entries are proposed by what changed: of an entry of 768 where dimensions of 768 are 512 now, 512; of 12 heads then, 8.
Whether they are right is seen by building: first without memory, to compare all shapes, then to compare predictions.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoprune.structure.surgery.copying import named_tensors

Changes = dict[str, Any]
"""Entries of a configuration to their values; of one within, ``text_config.hidden_size``; of a list, ``depths.1``."""
_MOST_BUILDS = 300


@dataclass(frozen=True)
class Sizes:
    """What is compared of two networks."""

    tensors: Mapping[str, torch.Size]
    attributes: Mapping[tuple[str, str], float]
    """Module and attribute to its number."""

    @classmethod
    def of(cls, network: nn.Module) -> Sizes:
        """A network's."""
        numbers = {
            (name, key): value
            for name, module in network.named_modules()
            for key, value in vars(module).items()
            if type(value) in (int, float)
        }
        return cls({name: tensor.shape for name, tensor in named_tensors(network).items()}, numbers)

    def mismatch(self, other: Sizes) -> tuple[int, int]:
        """How many tensors differ, and how many attributes."""
        tensors = sum(
            self.tensors.get(name) != other.tensors.get(name) for name in self.tensors.keys() | other.tensors.keys()
        )
        both = self.attributes.keys() & other.attributes.keys()
        return tensors, sum(self.attributes[place] != other.attributes[place] for place in both)


def with_changes(config: Any, changes: Mapping[str, Any]) -> Any:
    """The configuration that a file with those entries would give."""
    entries = config.to_dict()
    for path, value in changes.items():
        *parents, last = path.split(".")
        at: Any = entries
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else at[parent]
        at[int(last) if isinstance(at, list) else last] = value
    return type(config).from_dict(entries)


def set_changes(config: Any, changes: Mapping[str, Any]) -> None:
    """Set those entries of a configuration that is in use."""
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = config
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else getattr(at, parent)
        if isinstance(at, list):
            at[int(last)] = value
        else:
            setattr(at, last, value)


class Configuring:
    """Looks for the configuration of a pruned network."""

    def __init__(self, network: nn.Module, dropped: Mapping[str, tuple[int, Sequence[int]]]) -> None:
        """Get ready.

        Args:
            network: A pruned network of transformers whose configuration is the dense one's; without stand-ins for
                blocks.
            dropped: List of blocks to its length before some went, and which stayed.
        """
        self._network = network
        self._config: Any = network.config
        self._target = Sizes.of(network)
        self._dropped = dropped
        self._builds = 0
        self._known: dict[str, Sizes | None] = {}

    def found(self) -> tuple[Changes | None, str]:
        """The entries to change, and where there are none that do, why."""
        dense = self._sizes({})
        if dense is None:
            return None, "its own configuration does not build it"
        if unlike := self._unlike(dense):
            return None, unlike
        start = self._shortened()
        before = self._sizes(start) or dense
        options = self._options(before)
        ints = {path for path, value in _entries(self._config) if value is not None}
        guess = {path: values[0] for path, values in options.items() if path in ints}
        best: tuple[tuple[int, int], Changes] = (self._target.mismatch(before), start)
        for first in (start, {**start, **guess}):
            if (sizes := self._sizes(first)) is not None:
                best = min(best, self._improved(first, self._target.mismatch(sizes), options), key=lambda each: each[0])
        if best[0][0]:
            return None, self._misfit(best[1])
        return best[1], ""

    def _sizes(self, changes: Changes) -> Sizes | None:
        """Those of the network of a configuration; None where it refuses it."""
        key = repr(sorted(changes.items()))
        if key not in self._known:
            self._builds += 1
            self._known[key] = (
                _built_sizes(self._network, self._config, changes) if self._builds <= _MOST_BUILDS else None
            )
        return self._known[key]

    def _unlike(self, dense: Sizes) -> str:
        """Blocks that are alike in the dense network have to be alike, as one entry speaks for all of them."""
        for name, module in self._network.named_modules():
            if not isinstance(module, nn.ModuleList):
                continue
            alike: dict[str, dict[str, set[torch.Size]]] = defaultdict(lambda: defaultdict(set))
            for number, block in enumerate(module):
                kind = f"{type(block).__name__} {_inside(dense, f'{name}.{number}.')}"
                for tensor, size in _inside(self._target, f"{name}.{number}.").items():
                    alike[kind][tensor].add(size)
            for tensor, sizes in ((tensor, sizes) for tensors in alike.values() for tensor, sizes in tensors.items()):
                if len(sizes) > 1:
                    told = ", ".join(map(_size, sorted(sizes)))
                    return f"layers that were alike differ: {tensor} is {told} in the blocks of {name}"
        return ""

    def _shortened(self) -> Changes:
        """Entries that tell how many blocks there are, and lists with an entry for each."""
        changes: Changes = {}
        entries = dict(_entries(self._config))
        for length, stayed in self._dropped.values():
            tried: list[tuple[tuple[int, int], int, Changes]] = []
            for path, value in entries.items():
                if type(value) is not int or value != length or path in changes:
                    continue
                more: Changes = {
                    other: [each[number] for number in stayed]
                    for other, each in entries.items()
                    if isinstance(each, list) and len(each) == length and _owner(other) == _owner(path)
                }
                more[path] = len(stayed)
                if (sizes := self._sizes({**changes, **more})) is not None:
                    tried.append((self._target.mismatch(sizes), len(tried), more))
            if tried:
                changes |= min(tried)[2]
        return changes

    def _options(self, before: Sizes) -> dict[str, list[int]]:
        """Entry to the values that it may have now, the likeliest first."""
        became, entries = self._became(before), dict(_entries(self._config))
        told = {value for value in entries.values() if type(value) is int}
        untold = [new for old, news in became.items() if old not in told for new in news]
        options: dict[str, list[int]] = {}
        for path, value in entries.items():
            if value is None and untold:  # follows from others unless it is given
                options[path] = untold
            elif type(value) is int and value > 1 and (found := became.get(value, Counter()) + _shares(became, value)):
                options[path] = [new for new, _ in found.most_common()]
        return options

    def _became(self, before: Sizes) -> dict[int, Counter[int]]:
        """Sizes that changed to what became of them, and how often."""
        became: dict[int, Counter[int]] = defaultdict(Counter)
        for name, shape in before.tensors.items():
            now = self._target.tensors.get(name, shape)
            if len(now) == len(shape):
                for was, is_now in zip(shape, now, strict=True):
                    became[was][is_now] += was != is_now
        for place, number in before.attributes.items():
            other = self._target.attributes.get(place, number)
            if isinstance(number, int) and isinstance(other, int):
                became[number][other] += number != other
        return {was: +news for was, news in became.items() if +news}

    def _improved(
        self, changes: Changes, mismatch: tuple[int, int], options: Mapping[str, Sequence[int]]
    ) -> tuple[tuple[int, int], Changes]:
        """The best that is found by changing one entry at a time."""
        better = True
        while better and mismatch != (0, 0):
            better = False
            for path, values in options.items():
                for value in (*values, None):
                    other = {key: each for key, each in changes.items() if key != path}
                    if value is not None:
                        other[path] = value
                    sizes = self._sizes(other)
                    if sizes is not None and (now := self._target.mismatch(sizes)) < mismatch:
                        changes, mismatch, better = other, now, True
        return mismatch, changes

    def _misfit(self, changes: Changes) -> str:
        sizes, mine = self._sizes(changes) or Sizes({}, {}), self._target.tensors
        order = {**dict.fromkeys(self._network.state_dict()), **mine, **sizes.tensors}
        name = next(name for name in order if mine.get(name) != sizes.tensors.get(name))
        has, would = (each.get(name) for each in (mine, sizes.tensors))
        entries = ", ".join(f"{path}: {value}" for path, value in changes.items())
        told = f"{name} is {_size(has)}, with {{{entries}}} it would be {_size(would)}"
        return f"no configuration of {type(self._network).__name__} has its sizes ({told})"


def build(network: nn.Module, config: Any) -> nn.Module:
    """A network of the class of another, of a configuration."""
    attention = getattr(network.config, "_attn_implementation", None)
    options = {} if attention is None else {"attn_implementation": attention}
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    kind: Any = type(network)
    made: nn.Module = kind._from_config(config, dtype=dtype, **options)
    return made


def _built_sizes(network: nn.Module, config: Any, changes: Changes) -> Sizes | None:
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of transformers, about entries that do not go together
            return Sizes.of(build(network, with_changes(copy.deepcopy(config), changes)))
    except Exception:  # noqa: BLE001  whatever a configuration or a model raises of sizes that it cannot have
        return None


def _entries(config: Any, within: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry with its path, those of lists and of configurations within, too."""
    for key in config.to_dict():
        value = getattr(config, key, None)
        if hasattr(value, "to_dict"):
            yield from _entries(value, f"{within}{key}.")
            continue
        value = list(value) if isinstance(value, tuple) else value
        yield f"{within}{key}", value
        if isinstance(value, list):
            yield from ((f"{within}{key}.{number}", each) for number, each in enumerate(value))


def _shares(became: Mapping[int, Counter[int]], value: int) -> Counter[int]:
    """What became of a number that divides sizes, such as that of heads, where it divides them evenly."""
    found: Counter[int] = Counter()
    for old, news in became.items():
        for new in news if old > value and old % value == 0 else ():
            if new * value % old == 0 and new * value // old not in (0, value):
                found[new * value // old] += 1
    return found


def _inside(sizes: Sizes, prefix: str) -> dict[str, torch.Size]:
    """Of the tensors that begin so, weights first."""
    found = {name.removeprefix(prefix): size for name, size in sizes.tensors.items() if name.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda each: (not each[0].endswith("weight"), each[0])))


def _owner(path: str) -> str:
    return path.rpartition(".")[0]


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"
