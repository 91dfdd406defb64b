"""Ways to read a model's code where it can be read in several: what a size counts, which dimension carries units."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from autoprune.structure.building import Findings
from autoprune.structure.graph.labeler import labelled
from autoprune.structure.graph.labeling import Labeling
from autoprune.structure.graph.trace import Traced, module_of
from autoprune.structure.surgery.edits import found_edits
from autoprune.structure.surgery.sizes import keeps_sizes
from autoprune.structure.surgery.template import Template


@dataclass(frozen=True)
class Reading:
    """One way to read the code."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    """Attribute to ``last`` or ``none``; ``first`` if it has no reading. See `sizes`."""
    choices: Mapping[str, int] = field(default_factory=dict)
    """Node to the way it spreads units over dimensions."""

    def but(self, other: Reading) -> Reading:
        """The same where the other says nothing."""
        return Reading({**self.attributes, **other.attributes}, {**self.choices, **other.choices})


class Reader:
    """Reads the code of a network; or its exported graph, whose numbers can all be changed."""

    def __init__(self, network: nn.Module, traced: Traced, template: Template | None) -> None:
        """Get ready.

        Args:
            network: The dense network.
            traced: Its graph.
            template: That graph as the pruned model; None where the modules' code runs.
        """
        self._network = network
        self._traced = traced
        self._template = template

    def labelled(self, choices: Mapping[str, int]) -> Findings:
        """What labels find, and where the graph counts them if that is cut."""
        if self._template is None:
            return Findings(labelled(self._traced, choices))
        labeling, edits = found_edits(self._traced, choices)
        return Findings(labeling, template=self._template.with_edits(edits))

    def read(self, found: Findings, reading: Reading) -> Findings:
        """The same with what attributes count, which matters where the modules' code runs."""
        if self._template is not None:
            return found
        return replace(found, sizes=sizes(self._network, found.labeling, reading.attributes))

    def others(self, found: Findings) -> Iterator[Reading]:
        """Each thing that can be read another way, one at a time."""
        attributes = () if self._template else candidates(self._network, found.labeling)
        for attribute in sorted({attribute for _, attribute in attributes}):
            for read in ("last", "none"):
                yield Reading(attributes={attribute: read})
        # Like modules are written alike, so the nth such node of each is read alike.
        modules = {node.name: module_of(node) for node in self._traced.graph.graph.nodes}
        alike: dict[tuple[str, int], list[str]] = defaultdict(list)
        count: dict[str, int] = defaultdict(int)
        splits = found.labeling.splits
        for node in splits:
            module = modules.get(node, "")
            alike[pattern_of(module), count[module]].append(node)
            count[module] += 1
        for nodes in alike.values():
            for way in range(1, max(splits[node] for node in nodes)):
                yield Reading(choices={node: way for node in nodes if way < splits[node]})


def pattern_of(name: str) -> str:
    """What the names of like layers have in common."""
    return re.sub(r"\d+", "*", name)


def sizes(network: nn.Module, found: Labeling, readings: Mapping[str, str]) -> dict[tuple[str, str], Tensor]:
    """Integer attributes of modules whose code reshapes or splits units, and what they count.

    Where several sizes are equal, an attribute's reading tells which it is: the first in the module's code (if it has
    no reading), the ``last``, or ``none``.
    """
    return {
        (module, attribute): labels[-1 if readings.get(attribute) == "last" else 0]
        for (module, attribute), labels in candidates(network, found).items()
        if readings.get(attribute) != "none"
    }


def candidates(network: nn.Module, found: Labeling) -> dict[tuple[str, str], list[Tensor]]:
    """Integer attributes of modules, and the labels of every dimension of units there that has as many entries."""
    candidates: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    for size in found.sizes:
        module = network.get_submodule(size.module)
        if not keeps_sizes(module):
            for attribute, value in vars(module).items():
                if type(value) is int and value == len(size.labels):
                    candidates[size.module, attribute].append(size.labels)
    return candidates
