"""Runs the exported graph on labels and gathers what is tied to what."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from autoprune.plugin import Role
from autoprune.structure.graph.labeling import AtomRange, Average, Labeling, Product, Size
from autoprune.structure.graph.labels import Labels, along, axis, constant, narrowed, varying
from autoprune.structure.graph.operators import ELEMENTWISE, FRESH, MOVES, SAME, WRAPPERS, operator_name, ways
from autoprune.structure.graph.rules import index, reduce, sequence  # noqa: F401  they register their rules
from autoprune.structure.graph.rules.layers import RULES, Rule, short_name
from autoprune.structure.graph.ties import Ties
from autoprune.structure.graph.trace import Traced, module_of


class Labeler(fx.Interpreter):
    """Pushes labels through the graph."""

    def __init__(self, traced: Traced, choices: Mapping[str, int]) -> None:
        """Number the atoms of every parameter and buffer.

        Args:
            traced: The exported model.
            choices: Which dimension carries the units after a node that spreads them over several.
        """
        super().__init__(traced.graph)
        self.found = Labeling()
        self.rules: Mapping[str, Rule] = RULES
        self._traced = traced
        self._choices = choices
        self._module = ""
        self._given: Iterator[Any] | None = None
        self._calls: Counter[tuple[str, str]] = Counter()
        self._parameters: dict[str, Labels] = {}
        for name, tensor in traced.tensors.items():
            planes = []
            for dim, size in enumerate(tensor.shape):
                if size > 1:
                    self.found.ranges.append(AtomRange(name, dim, self.found.atoms, size))
                    atoms = torch.arange(self.found.atoms, self.found.atoms + size)
                    view = [size if d == dim else 1 for d in range(tensor.ndim)]
                    planes.append(atoms.view(view).expand(tensor.shape))
                    self.found.atoms += size
            zeros = torch.zeros((), dtype=torch.int64).expand(tensor.shape)
            self._parameters[name] = Labels(tuple(planes) or (zeros,), parameter=True)

    @property
    def ties(self) -> Ties:
        """What is tied so far."""
        return self.found.ties

    def label(self) -> Labeling:
        """Run the graph."""
        self.run(enable_io_processing=False)
        return self.found

    # What rules call.

    def claim(self, atoms: Tensor, role: Role) -> Tensor:
        """Note what those atoms do; returns them."""
        self.found.roles[role].append(atoms.reshape(-1))
        return atoms

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
        self.found.products.append(Product(factor, vectors, self._module, layer or self._module))

    def makes(self, weight: Labels, made: Tensor) -> None:
        """Note the labels of what the layer of that weight makes, in the order of its outputs."""
        if layer := self._layer(weight):
            self.found.outputs.setdefault(layer, made)

    def _layer(self, weight: Labels) -> str:
        """Name of the layer that a weight belongs to: of several that share it the one that runs."""
        for plane in weight.planes:
            if name := self.found.tensor(narrowed(plane)):
                owners = [_owner(each) for each in self._traced.aliases[name]]
                return self._module if self._module in owners else owners[0]
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

    def chosen(self, node: fx.Node, ways: int) -> int:
        """Which of several ways to cut what a node makes is tried."""
        self.found.splits[node.name] = ways
        return self._choices.get(node.name, 0)

    def moved(self, node: fx.Node, x: Labels, planes: Sequence[Tensor]) -> Labels:
        """Labels after entries moved; an activation is cut along one dimension, so the others are tied."""
        if x.parameter:
            return Labels(tuple(planes), parameter=True)
        plane = narrowed(planes[0])
        dims = varying(plane)
        if len(dims) > 1:
            likely = ways(node, x.plane, plane.shape, dims)
            keep = likely[self.chosen(node, len(likely))]
            self.named(node, x.plane)
            for dim in dims:
                if dim != keep:
                    first = plane.narrow(dim, 0, 1)
                    self.ties.tie(plane, first)
                    plane = first
        self.named(node, plane)
        return Labels((plane.expand(planes[0].shape),))

    def named(self, node: fx.Node, plane: Tensor) -> None:
        """Note the sizes that the code of the node's module may hold as attributes."""
        for dim in varying(plane):
            labels = plane.movedim(dim, 0).reshape(plane.shape[dim], -1)[:, 0]
            self.found.sizes.append(Size(module_of(node), labels))

    def constants(self, node: fx.Node) -> Any:
        """Constant labels in the shape of the node's output."""
        return _constant_like(node.meta.get("val"))

    def elementwise(self, operands: Sequence[Labels], shape: torch.Size) -> Labels:
        """Ties broadcast operands entry by entry."""
        aligned = [Labels(tuple(_aligned(p, len(shape)) for p in x.planes), x.parameter) for x in operands]
        activations = [x.plane for x in aligned if not x.parameter]
        parameters = [x for x in aligned if x.parameter]
        if not activations:
            return self._elementwise_parameters(parameters, shape)
        result = activations[0]
        for other in activations[1:]:
            result = self._merge(result, other, shape)
        for parameter in parameters:
            dims = varying(result)
            for plane in parameter.planes:
                if dims and varying(plane) == dims:
                    self.claim(narrowed(plane), "vector")
                    result = self._merge(result, plane, shape)
                else:
                    self.ties.pin(plane, f"used whole by {self.ties.where}")
            if any(parameter.shape[dim] != 1 for dim in dims) and not any(varying(p) == dims for p in parameter.planes):
                self.ties.pin(result, f"mixed with a whole parameter by {self.ties.where}")
        return Labels((result.expand(shape),))

    def _merge(self, a: Tensor, b: Tensor, shape: torch.Size) -> Tensor:
        along_a, along_b = varying(a), varying(b)
        if not along_a and along_b:
            return self._merge(b, a, shape)
        if along_a and along_b and along_a != along_b:
            reason = f"{self.ties.where} spreads them over each other"
            for goes_on, stays in ((a, b), (b, a)):
                if all(stays.shape[dim] == 1 for dim in varying(goes_on)):
                    self.ties.pin(stays, reason)
                    return goes_on
            for plane in (a, b):
                self.ties.pin(plane, reason)
            return torch.zeros((), dtype=torch.int64).expand(shape)
        if along_a and not along_b:
            label = narrowed(b)
            if label.any():
                self.ties.pin(label, f"its one value acts on many units in {self.ties.where}")
                return a
            if all(b.shape[dim] == 1 for dim in along_a):
                return a
        self.ties.tie(narrowed(a), narrowed(b))
        return a if narrowed(a).any() else b

    def _elementwise_parameters(self, parameters: Sequence[Labels], shape: torch.Size) -> Labels:
        planes: dict[tuple[int, ...], Tensor] = {}
        for parameter in parameters:
            for plane in parameter.planes:
                dims = varying(plane)
                if dims in planes:
                    self.ties.tie(narrowed(planes[dims]), narrowed(plane))
                planes.setdefault(dims, plane.expand(shape))
        if len(planes) > 1:
            planes.pop((), None)
        return Labels(tuple(planes.values()), parameter=True)

    # The interpreter.

    def run_node(self, n: fx.Node) -> Any:
        """Labels of one node's output."""
        if n.op == "placeholder":
            if n.name in self._traced.names:
                return self._parameters[self._traced.names[n.name]]
            return self.constants(n) if self._given is None else next(self._given)
        if n.op == "get_attr":
            return constant(value.shape) if isinstance(value := self.fetch_attr(str(n.target)), Tensor) else value
        args: Any = map_arg(n.args, lambda used: self.env[used])
        if n.op == "output":
            if self._given is not None:
                return args[0]
            self._pin_all(args, "it is an output of the model")
            return None
        if n.target is operator.getitem:
            return args[0][args[1]]
        self._module = module_of(n)
        self.ties.where = f"{n.target} in {self._module or 'the model'}"
        return self._operator(n, _positional(n, args, self.env))

    def _operator(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        name = operator_name(node) or str(node.target)
        if name in FRESH or name == "aten::_assert_tensor_metadata" or not _tensors(args):
            return self.constants(node)
        if name in SAME:
            return args[0]
        if name in MOVES:
            return self._move(node, name, args)
        if name in self.rules:
            result = self.rules[name](self, node, args)
            if result is not None:
                return result
        if name in ELEMENTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ()):
            value = node.meta["val"]
            if isinstance(value, Tensor):
                return self.elementwise(_tensors(args), value.shape)
        wrapped = [number for number, arg in enumerate(args) if isinstance(arg, fx.GraphModule)]
        if len(wrapped) == 1 and name in WRAPPERS:
            return self._nested(args[wrapped[0]], args[wrapped[0] + 1 :])
        labels = _tensors(args)
        if any(plane.any() for x in labels for plane in x.planes):
            self.found.unknown.setdefault(name, []).append(module_of(node))
        self._pin_all(args, f"{name} in {module_of(node) or 'the model'} has no rule")
        return self.constants(node)

    def _nested(self, graph: fx.GraphModule, given: Sequence[Any]) -> Any:
        """Run a graph within the graph: what is found there belongs to the whole."""
        inner = copy.copy(self)
        fx.Interpreter.__init__(inner, graph)
        inner._given = iter(given)
        return inner.run(enable_io_processing=False)

    def _move(self, node: fx.Node, name: str, args: tuple[Any, ...]) -> Any:
        shape = node.meta["val"].shape
        x = args[0]
        if isinstance(x, Labels):
            if name.endswith(("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten")):
                planes = [plane.reshape(shape) for plane in x.planes]
            elif name.endswith(("expand", "expand_as", "broadcast_to")):
                planes = [plane.expand(shape) for plane in x.planes]
            else:
                planes = [node.target(plane, *args[1:], **node.kwargs) for plane in x.planes]  # type: ignore[operator]
            return self.moved(node, x, planes)
        activations = [part for part in x if not part.parameter]
        if not activations:
            return self._joined(node, x, args[1] if len(args) > 1 else 0)
        dims = {dim for part in activations for dim in varying(part.plane)}
        planes = []
        for part in x:
            # Of a parameter among activations (a class token), the plane that varies as they do.
            fit = [plane for plane in part.planes if set(varying(plane)) <= dims] if part.parameter else [part.plane]
            chosen = fit[-1] if fit and dims else torch.zeros(part.shape, dtype=torch.int64)
            for plane in part.planes:
                if part.parameter and plane is not chosen:
                    self.ties.pin(plane, f"used whole by {self.ties.where}")
            if part.parameter:
                self.claim(narrowed(chosen), "vector")
            planes.append(chosen)
        moved = node.target(planes, *args[1:])  # type: ignore[operator]
        units = next((plane for plane in planes if varying(plane)), planes[0])
        return self.moved(node, Labels((units,)), [moved])

    def _joined(self, node: fx.Node, parts: Sequence[Labels], dim: int) -> Labels:
        """Parameters joined: along ``dim`` their atoms follow each other, along the others they are cut alike."""
        shape = node.meta["val"].shape
        dim %= len(shape)
        stacked = len(shape) > len(parts[0].shape)
        planes = []
        for other in range(len(parts[0].shape)):
            atoms = [axis(part, other) for part in parts]
            place = other + (stacked and other >= dim)
            if other == dim and not stacked:
                planes.append(along(torch.cat(atoms), place, shape).plane)
                continue
            for more in atoms[1:]:
                self.ties.tie(atoms[0], more)
            planes.append(along(atoms[0], place, shape).plane)
        return Labels(tuple(planes), parameter=True)

    def _pin_all(self, values: Any, reason: str) -> None:
        for labels in _tensors(values):
            for plane in labels.planes:
                self.ties.pin(plane, reason)


def _owner(tensor: str) -> str:
    """Name of the layer of a parameter, or of one that a parametrization computes the layer's own from."""
    return tensor.partition(".parametrizations.")[0] if ".parametrizations." in tensor else tensor.rpartition(".")[0]


def _constant_like(value: Any) -> Any:
    """Constant labels for a (nested) example value; what is no tensor passes through."""
    if isinstance(value, Tensor):
        return constant(value.shape)
    if isinstance(value, list | tuple):
        return tuple(_constant_like(item) for item in value)
    return value


def _aligned(plane: Tensor, ndim: int) -> Tensor:
    return plane.reshape((1,) * (ndim - plane.ndim) + plane.shape)


def _tensors(values: Any) -> list[Labels]:
    if isinstance(values, Labels):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [labels for value in values for labels in _tensors(value)]
    return []


def _positional(node: fx.Node, args: Any, env: Mapping[fx.Node, Any]) -> tuple[Any, ...]:
    """The operator's positional arguments, defaults and keywords filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return (*args, *map_arg(node.kwargs, lambda used: env[used]).values())
    kwargs = map_arg(node.kwargs, lambda used: env[used])
    filled = list(args)
    for argument in schema.arguments[len(args) :]:
        if argument.kwarg_only:
            if isinstance(kwargs.get(argument.name), Labels):
                filled.append(kwargs[argument.name])
            continue
        filled.append(kwargs.get(argument.name, argument.default_value))
    return tuple(filled)
