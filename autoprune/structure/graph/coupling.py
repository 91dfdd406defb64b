"""What rules call: atoms of parameters, what is tied to what, and what else is worth noting on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.plugin import Role
from autoprune.structure.graph.labeling import AtomRange, Average, Labeling, Product, Size
from autoprune.structure.graph.labels import Labels, along, constant, narrowed, varying
from autoprune.structure.graph.operators import FILLED, operator_name, short_name
from autoprune.structure.graph.ties import Ties
from autoprune.structure.graph.trace import Traced, module_of


class Coupling:
    """Gathers what is found in a graph while its operators run on labels, one after the other."""

    def __init__(self, traced: Traced, choices: Mapping[str, int]) -> None:
        """Number the atoms of every parameter and buffer.

        Args:
            traced: The exported model.
            choices: Which dimension carries the units after a node that spreads them over several.
        """
        self.found = Labeling()
        self.module = ""
        """Whose code runs."""
        self.parameters: dict[str, Labels] = {}
        """Labels of each parameter and buffer, by its name."""
        self._aliases = traced.aliases
        self._choices = choices
        self._calls: Counter[tuple[str, str]] = Counter()
        for name, tensor in traced.tensors.items():
            planes = []
            for dim, size in enumerate(tensor.shape):
                if size > 1:
                    view = [size if d == dim else 1 for d in range(tensor.ndim)]
                    planes.append(self.new_atoms(name, dim, size).view(view).expand(tensor.shape))
            zeros = torch.zeros((), dtype=torch.int64).expand(tensor.shape)
            self.parameters[name] = Labels(tuple(planes) or (zeros,), parameter=True)
        self._held = self.found.atoms
        """Labels from here on are of what the graph makes itself."""

    @property
    def ties(self) -> Ties:
        """What is tied so far."""
        return self.found.ties

    def new_atoms(self, tensor: str, dim: int, size: int, *, virtual: bool = False) -> Tensor:
        """Number the entries of a dimension; see `AtomRange`."""
        first = self.found.atoms
        self.found.ranges.append(AtomRange(tensor, dim, first, size, virtual))
        self.found.atoms += size
        return torch.arange(first, first + size)

    def enter(self, node: fx.Node) -> None:
        """Say which operator runs from now on."""
        self.module = module_of(node)
        self.ties.where = f"{node.target} in {self.module or 'the model'}"

    def claim(self, atoms: Tensor, role: Role) -> Tensor:
        """Note what those atoms do, unless the graph makes them itself; returns them."""
        entries = atoms.reshape(-1)
        self.found.roles[role].append(entries[entries < self._held])
        return atoms

    def is_weight(self, atoms: Tensor) -> bool:
        """Whether they are of a parameter or buffer."""
        return bool(((atoms > 0) & (atoms < self._held)).any())

    def carried(self, x: Labels, dim: int) -> Tensor:
        """Plane of what an operator reads along one dimension; a parameter read like an activation stays otherwise."""
        if not x.parameter:
            return x.plane
        dim %= len(x.shape)
        chosen = torch.zeros((), dtype=torch.int64).expand(x.shape)
        for plane in x.planes:
            if varying(plane) == (dim,):
                chosen = plane
                self.claim(narrowed(plane), "vector")
            else:
                self.ties.pin(plane, f"used whole by {self.ties.where}")
        return chosen

    def kind(self, granularity: str, labels: Tensor) -> None:
        """Note what the units of those labels are."""
        self.found.kinds.setdefault(granularity, []).append(labels)

    def macs(self, factor: int, *vectors: Tensor, weight: Labels | None = None) -> None:
        """Note the multiply-accumulates of an operator over the whole batch, and its weight if it has one."""
        layer = "" if weight is None else self._layer(weight)
        self.found.products.append(Product(factor, vectors, self.module, layer or self.module))

    def makes(self, weight: Labels, made: Tensor) -> None:
        """Note the labels of what the layer of that weight makes, in the order of its outputs."""
        if layer := self._layer(weight):
            self.found.outputs.setdefault(layer, made)

    def _layer(self, weight: Labels) -> str:
        """Name of the layer that a weight belongs to: of several that share it the one that runs."""
        for plane in weight.planes:
            if name := self.found.tensor(narrowed(plane)):
                owners = [_owner(each) for each in self._aliases[name]]
                return self.module if self.module in owners else owners[0]
        return ""

    def count(self, node: fx.Node) -> None:
        """Number the calls of an operator that averages, for each module."""
        self._calls[module_of(node), short_name(node)] += 1

    def average(self, node: fx.Node, dim: int, plane: Tensor) -> None:
        """Note that an operator averages over the units along that dimension of its input."""
        key = module_of(node), short_name(node)
        labels = plane.movedim(dim, 0).reshape(plane.shape[dim], -1)[:, 0]
        self.found.averages.append(Average(*key, self._calls[key] - 1, dim, labels))

    def by_whole_groups(self, node: fx.Node, groups: int, size: int) -> bool:
        """Whether ``groups`` blocks of ``size`` channels lose whole blocks, or the same channels in every block.

        Whichever leaves more units to choose from.
        """
        whole = groups >= size
        if whole:
            self.found.whole_groups.add(module_of(node))
        return whole

    def chosen(self, node: fx.Node, ways: int, carried: Sequence[Tensor] = ()) -> int:
        """Which of several ways to cut what a node makes is tried.

        Args:
            node: Which node.
            ways: How many there are.
            carried: Of each way the labels that go on, where another is better if these stay.
        """
        self.found.splits[node.name] = ways
        way = self._choices.get(node.name, 0)
        if carried:
            self.found.carried[node.name] = carried[way]
        return way

    def named(self, node: fx.Node, plane: Tensor) -> None:
        """Note the sizes that the code of the node's module may hold as attributes."""
        for dim in varying(plane):
            labels = plane.movedim(dim, 0).reshape(plane.shape[dim], -1)[:, 0]
            self.found.sizes.append(Size(module_of(node), labels))

    def constants(self, node: fx.Node) -> Any:
        """Constant labels in the shape of the node's output; of one value in a written size, see `filled`."""
        value = node.meta.get("val")
        if operator_name(node) in FILLED and isinstance(value, Tensor):
            return self.filled(node, value.shape, range(value.ndim))
        return constant_like(value)

    def filled(self, node: fx.Node, shape: torch.Size, dims: Iterable[int]) -> Labels:
        """Labels of what is one value along some dimensions: it may be made smaller along each of them.

        Whether the code makes it as small as what it meets is for verification to find out.
        """
        planes = []
        for dim in dims:
            if shape[dim] > 1:
                planes.append(along(self.new_atoms(node.name, dim, shape[dim], virtual=True), dim, shape).plane)
                self.named(node, planes[-1])
        return Labels(tuple(planes), parameter=True) if planes else constant(shape)

    def finish(self) -> None:
        """Forget the sizes of what the graph makes itself that turned out to be no units'."""
        roots = self.found.roots
        self.found.sizes = [size for size in self.found.sizes if bool((roots[size.labels] < self._held).any())]

    def of_one_dimension(self, values: Any) -> Any:
        """The same (nested) arguments, of activations with units along several dimensions the first; the others stay.

        Args:
            values: Of an operator that knows only one such dimension.
        """
        if isinstance(values, Labels) and values.several:
            for plane in values.planes[1:]:
                self.ties.pin(plane, f"{self.ties.where} knows units along another dimension alone")
            return Labels(values.planes[:1])
        if isinstance(values, list | tuple) and any(labels.several for labels in labels_in(values)):
            return [self.of_one_dimension(value) for value in values]
        return values

    def pin_all(self, values: Any, reason: str) -> None:
        """Let all units stay that (nested) labels speak of."""
        for labels in labels_in(values):
            for plane in labels.planes:
                self.ties.pin(plane, reason)


def labels_in(values: Any) -> list[Labels]:
    """All labels among (nested) arguments."""
    if isinstance(values, Labels):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [labels for value in values for labels in labels_in(value)]
    return []


def _owner(tensor: str) -> str:
    """Name of the layer of a parameter, or of one that a parametrization computes the layer's own from."""
    return tensor.partition(".parametrizations.")[0] if ".parametrizations." in tensor else tensor.rpartition(".")[0]


def constant_like(value: Any) -> Any:
    """Constant labels for a (nested) example value; what is no tensor passes through."""
    if isinstance(value, Tensor):
        return constant(value.shape)
    if isinstance(value, list | tuple):
        return tuple(constant_like(item) for item in value)
    return value
