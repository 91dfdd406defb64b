"""A model's exported graph: the operators it runs, with its parameters and buffers as inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind

from autoprune.plugin import Inputs
from autoprune.structure.graph.idle import marked
from autoprune.structure.graph.untraceable import check_sizes, quietly, untraceable


@dataclass(frozen=True)
class Traced:
    """What `trace` finds."""

    program: ExportedProgram
    tensors: dict[str, Tensor]
    """Every parameter and buffer that the graph reads, by name."""
    aliases: Mapping[str, tuple[str, ...]]
    """The same to all names of that tensor in the model."""
    names: dict[str, str]
    """Placeholder of the graph to the name of the parameter or buffer that it stands for."""
    constants: dict[str, Tensor]
    """Placeholder to a constant that the model's code makes."""
    inputs: Mapping[str, str]
    """Placeholders of the model's inputs, in order, to their keyword; empty for positional ones."""
    example: Inputs | None
    """What it was traced with, where that is known."""
    idle: frozenset[str] = frozenset()
    """Modules that did nothing, each of which left a dropout of rate 0."""

    @property
    def batch(self) -> int:
        """Samples in the example."""
        return 0 if self.example is None else len(self.example)

    @property
    def read(self) -> set[str]:
        """Every name of the parameters and buffers that some operator takes; others are in the program all the same."""
        taken = (self.names[node.name] for node in self.graph.graph.nodes if node.name in self.names and node.users)
        return {alias for name in taken for alias in self.aliases[name]}

    @property
    def graph(self) -> fx.GraphModule:
        """The operators."""
        module: fx.GraphModule = self.program.graph_module
        return module

    @classmethod
    def of(
        cls,
        program: ExportedProgram,
        named: Mapping[str, Tensor],
        example: Inputs | None = None,
        idle: Iterable[str] = (),
    ) -> Traced:
        """Sort the placeholders of an exported program.

        Args:
            program: What ``torch.export`` made.
            named: The parameters and buffers of the model.
            example: What it was traced with; None if that is not known.
            idle: Modules that left a dropout of rate 0.
        """
        names: dict[str, str] = {}
        constants: dict[str, Tensor] = {}
        inputs: list[str] = []
        for spec in program.graph_signature.input_specs:
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in named:
                names[spec.arg.name] = spec.target
            elif spec.kind in (InputKind.CONSTANT_TENSOR, InputKind.BUFFER):
                constant = program.constants.get(spec.target or "")
                if isinstance(constant, Tensor):
                    constants[spec.arg.name] = constant
            elif spec.kind is InputKind.USER_INPUT:
                inputs.append(spec.arg.name)
        # One name per tensor: tied weights are one tensor under several names.
        canonical: dict[int, str] = {}
        names = {place: canonical.setdefault(id(named[name]), name) for place, name in names.items()}
        tensors = {name: named[name].detach() for name in names.values()}
        every: dict[int, list[str]] = {}
        for name, tensor in named.items():
            every.setdefault(id(tensor), []).append(name)
        aliases = {name: tuple(every[id(named[name])]) for name in tensors}
        keywords = dict(zip(inputs, _keywords(program, len(inputs)), strict=True))
        return cls(program, tensors, aliases, names, constants, keywords, example, frozenset(idle))


def _keywords(program: ExportedProgram, count: int) -> list[str]:
    """Of ``count`` inputs in the order of the program: the keyword of each, empty for positional ones."""
    spec = program.call_spec.in_spec
    by_name = spec.child(1) if spec is not None and spec.num_children == 2 else None
    flat = by_name is not None and by_name.num_leaves == by_name.num_children
    names = [str(keyword) for keyword in by_name.context or ()] if by_name is not None and flat else []
    return [""] * (count - len(names)) + names


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in ``eval()``; afterwards every module's mode is what it was."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def exported(
    network: nn.Module, inputs: Inputs, shapes: ShapesCollection | None = None
) -> tuple[ExportedProgram, set[str]]:
    """Export a model in ``eval()``, and name the modules that did nothing.

    Args:
        network: The model; left as it was.
        inputs: Example inputs.
        shapes: Which of their sizes may be others; none if None.

    Raises:
        Exception: Whatever ``torch.export`` and the model's own code raise: dozens of types.
    """
    args, kwargs = inputs.args, dict(inputs.kwargs)
    with evaluating(network), torch.no_grad(), quietly(), marked(network) as idle:
        dynamic: Any = None if shapes is None else shapes.dynamic_shapes(network, args, kwargs)  # type: ignore[no-untyped-call]
        return torch.export.export(network, args, kwargs, dynamic_shapes=dynamic, strict=False), idle


def trace(network: nn.Module, inputs: Inputs) -> Traced:
    """Export a model in ``eval()``.

    Args:
        network: The model; left as it was.
        inputs: Example inputs.

    Raises:
        StructureError: ``torch.export`` cannot trace it, or sizes in it depend on values.
    """
    try:
        program, idle = exported(network, inputs)
    except Exception as error:
        raise untraceable(network, error) from error
    check_sizes(network, program.graph_module)
    named = {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }
    return Traced.of(program, named, inputs, idle)


def modules_of(node: fx.Node) -> list[str]:
    """Names of the modules whose code made that node, outermost first; empty for the model itself."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    return [str(path) for path, _ in stack.values()]


def module_of(node: fx.Node) -> str:
    """Name of the innermost module whose code made that node; empty for the model itself."""
    return next(reversed(modules_of(node)), "")
