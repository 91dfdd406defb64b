"""What becomes of products, seen in one run on a few samples: the norm behind one, and what is added to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import positions
from autoprune_recoveries._products import Call, Watch, called, parameter_of

if TYPE_CHECKING:
    from torch import Tensor, nn

_ADDITIONS = {"add", "__add__", "__radd__", "__iadd__", "add_"}
_PRODUCTS = {"mul", "__mul__", "__rmul__", "__imul__", "mul_", "multiply"}
_RELU = {"relu", "relu_"}
_SAME = {"dropout", "contiguous", "clone", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "to"}
NORMS = {"batch_norm", "layer_norm", "group_norm", "rms_norm"}


@dataclass(frozen=True)
class Tap:
    """Where a tensor can be seen: what a module takes or gives."""

    module: str
    given: bool
    """What it gives, else what it takes first."""


@dataclass(frozen=True)
class Way:
    """How a product's outputs go on."""

    norm: str | None = None
    """The batch norm that alone reads them."""
    scale: str | None = None
    """The parameter that they are multiplied with, behind that norm if there is one: a layer scale."""
    turn: tuple[int, ...] | None = None
    """Their dimensions in the order that they have where something is added; None if that is the same."""
    shortcut: Tap | None = None
    """What is added, and is there before the product is computed."""
    rectified: bool = False
    """Whether nothing but a ReLU reads what comes of all that."""


@dataclass(frozen=True)
class Found:
    """A layer whose weight is used by products alone."""

    way: Way
    """Of its first use; where other uses go on in other ways, no more than that."""
    uses: int
    positions: int
    """Of its outputs in the run, at its first use."""
    outputs: int
    features: int
    """How many numbers its outputs read at a position."""
    features_last: bool
    """Whether that is the last dimension of its outputs, else the second."""


def ways(network: nn.Module, run: Callable[[], Any]) -> dict[str, Found]:
    """What becomes of the layers whose weights are used by products alone, in the order of their first use.

    Args:
        network: In ``eval()``.
        run: Runs it once, on a few samples.
    """
    import torch

    flow = _Flow(network)
    try:
        with torch.no_grad(), flow:
            run()
    finally:
        flow.close()
    return flow.ways()


_Use = tuple[str, int]
"""A layer, and how often it had run before."""


@dataclass
class _Seen:
    """A tensor as it was: code may change it in place."""

    time: int
    reference: weakref.ref[Tensor]
    value: Tensor

    def shows(self, tensor: Tensor) -> bool:
        import torch

        return self.reference() is tensor and self.value.shape == tensor.shape and torch.equal(self.value, tensor)


class _Flow(Watch):
    """Knows tensors by identity, from function to function and from module to module."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._time = 0
        self._seen: dict[int, list[tuple[Tap, _Seen]]] = {}
        self._times: dict[str, int] = {}
        """How often layers have run."""
        self._ran: dict[_Use, int] = {}
        self._sizes: dict[str, tuple[int, int, int, bool]] = {}
        """At their first use."""
        self._made: dict[int, tuple[_Use, Way, _Seen]] = {}
        """Tensors that still are a layer's outputs, to the layer and the way that they went."""
        self._added: dict[_Use, Way] = {}
        self._norm: dict[_Use, str] = {}
        self._uses: dict[int, int] = {}
        self._readers: dict[tuple[_Use, Way], set[str]] = {}
        """Functions that read what has come of a layer's outputs by then."""
        self._reads: dict[_Use, int] = {}
        """How many functions read what a layer put out."""
        named = [*network.named_parameters(), *network.named_buffers()]
        self._names = {id(tensor): name for name, tensor in named}
        self._hooks = []
        for name, module in network.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._taking(name), with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._giving(name)))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def ways(self) -> dict[str, Found]:
        found = {}
        for weight, (layer, _) in self._weights.items():
            uses = self._times.get(layer, 0)
            if uses and self._uses.get(weight) == uses:
                ways = [self._way((layer, use)) for use in range(uses)]
                alike = {replace(way, shortcut=None) for way in ways}
                found[layer] = Found(ways[0] if len(alike) == 1 else Way(), uses, *self._sizes[layer])
        return {layer: found[layer] for layer in sorted(found, key=lambda layer: self._ran[layer, 0])}

    def _way(self, use: _Use) -> Way:
        norm = self._norm.get(use) if self._reads.get(use) == 1 else None
        way = self._added.get(use, Way(norm))
        way = way if way.norm == norm else Way(norm)
        readers = self._readers.get((use, way), set())
        return replace(way, rectified=bool(readers) and readers <= _RELU)

    # Products.

    def before(self, call: Call) -> None:
        self._note(Tap(call.layer, given=False), call.inputs)
        if not call.first:
            self._ran[call.layer, self._times.get(call.layer, 0)] = self._time
            self._times[call.layer] = self._times.get(call.layer, 0) + 1

    def after(self, call: Call, outputs: Callable[[], Tensor]) -> None:
        if not call.first and call.layer not in self._sizes:
            product = call.product
            count = positions(product, outputs())
            self._sizes[call.layer] = (count, product.outputs, product.features, product.kind != "convolution")

    def gave(self, call: Call, result: Tensor, turn: tuple[int, ...] | None) -> None:
        if not call.first and len(result.shape) > 1:
            use = (call.layer, self._times[call.layer] - 1)
            self._reads[use] = 0
            self._keep(result, use, Way(turn=turn))
        self._note(Tap(call.layer, given=True), result)

    # Everything else.

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = called(func)
        added = self._note_sum(*args) if name in _ADDITIONS and len(args) == 2 else None
        given = list(_tensors((args, kwargs)))
        made = [(tensor, self._made[id(tensor)]) for tensor in given if self._made_by(tensor)]
        owner = self._names.get(id(given[1]), "").rpartition(".")[0] if name in NORMS and len(given) > 1 else ""
        if owner:
            self._note(Tap(owner, given=False), given[0])
        result = super().__torch_function__(func, types, args, kwargs)
        if next(_tensors(result), None) is None or name == "__get__":
            return result
        for tensor in given:
            self._uses[id(tensor)] = self._uses.get(id(tensor), 0) + 1
        for _, (use, way, _) in made:
            if name not in _SAME:
                self._readers.setdefault((use, way), set()).add(name)
            self._reads[use] += name not in _SAME and way == Way(turn=way.turn)
        if owner:
            self._note(Tap(owner, given=True), result)
        if added is not None:
            self._keep(result, *added)
        elif made and _is_one(result):
            self._follow(name, made[0], given, args, result, owner)
        return result

    def _follow(
        self,
        name: str,
        made: tuple[Tensor, tuple[_Use, Way, _Seen]],
        given: list[Tensor],
        args: Any,
        result: Any,
        owner: str,
    ) -> None:
        """What a function makes of a layer's outputs, if they can still be told."""
        tensor, (use, way, _) = made
        if name == "batch_norm" and way == Way() and tensor is given[0] and owner:
            self._norm[use] = owner
            self._keep(result, use, Way(owner))
        elif name in _PRODUCTS and len(given) == 2 and way.scale is None:
            other = given[1] if tensor is given[0] else given[0]
            scale = self._names.get(id(parameter_of(other)))
            if scale and other.numel() == parameter_of(other).numel() == max(other.shape):
                self._keep(result, use, replace(way, scale=scale))
        elif name in ("transpose", "permute") and len(given) == 1:
            self._keep(result, use, replace(way, turn=_turned(way.turn, tensor, name, args)))
        elif name in _SAME and len(given) == 1:
            rows_stay = way.turn is None and result.shape[-1:] == tensor.shape[-1:]
            if result.shape == tensor.shape or rows_stay:
                self._keep(result, use, way)

    def _keep(self, result: Tensor, use: _Use, way: Way) -> None:
        self._made[id(result)] = (use, way, self._as_it_is(result))

    def _made_by(self, tensor: Tensor) -> bool:
        made = self._made.get(id(tensor))
        return made is not None and made[2].shows(tensor)

    def _note_sum(self, one: Any, other: Any) -> tuple[_Use, Way] | None:
        """If one is a layer's outputs: that layer, and with what is added, if that was there before the layer ran."""
        if not _is_one(one) or not _is_one(other) or one.shape != other.shape:
            return None
        for branch, shortcut in ((one, other), (other, one)):
            if self._made_by(branch):
                use, way, _ = self._made[id(branch)]
                tap = self._latest(shortcut, before=self._ran[use])
                if tap is not None and use not in self._added:
                    self._added[use] = replace(way, shortcut=tap)
                    return use, self._added[use]
        return None

    def _latest(self, tensor: Tensor, before: int) -> Tap | None:
        """Where it was seen last, the same object with the same values."""
        for tap, seen in reversed(self._seen.get(id(tensor), [])):
            if seen.time <= before and seen.reference() is tensor:
                return tap if seen.shows(tensor) else None
        return None

    # Modules.

    def _taking(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._note(Tap(name, given=False), next(iter((*args, *kwargs.values())), None))

        return hook

    def _giving(self, name: str) -> Callable[..., None]:
        return lambda _, __, output: self._note(Tap(name, given=True), output)

    def _note(self, tap: Tap, value: Any) -> None:
        self._time += 1
        if _is_one(value):
            self._seen.setdefault(id(value), []).append((tap, self._as_it_is(value)))

    def _as_it_is(self, tensor: Tensor) -> _Seen:
        import torch

        with torch._C.DisableTorchFunction():
            return _Seen(self._time, weakref.ref(tensor), tensor.clone())


def _turned(turn: tuple[int, ...] | None, tensor: Tensor, name: str, args: Any) -> tuple[int, ...] | None:
    """The order of dimensions after one more change of it; None if it is the first one again."""
    n = tensor.dim()
    dims = [d for each in args[1:] for d in (each if isinstance(each, tuple | list) else (each,))]
    order = list(range(n))
    if name == "permute":
        order = [d % n for d in dims]
    else:
        order[dims[0]], order[dims[1]] = order[dims[1]], order[dims[0]]
    before = range(n) if turn is None else turn
    after = tuple(before[d] for d in order)
    return None if after == tuple(range(n)) else after


def _is_one(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _tensors(value: Any) -> Iterator[Tensor]:
    if _is_one(value):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
