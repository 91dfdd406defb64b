"""What a network multiplies by its weights, seen as it runs: in modules, in code of its own, in an exported graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from autoprune.toolkit.layers import Product, owners
from autoprune_recoveries._computed import Computed, Held
from autoprune_recoveries._recurrent import RECURRENT, Roll

if TYPE_CHECKING:
    from torch import Tensor, nn

_LINEAR = ("input", "weight", "bias")
_CONVOLUTION = (*_LINEAR, "stride", "padding", "dilation", "groups")
_TRANSPOSED = (*_LINEAR, "stride", "padding", "output_padding", "groups", "dilation")
_ARGUMENTS = {
    "linear": _LINEAR,
    **{f"conv{n}d": _CONVOLUTION for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
    "addmm": ("bias", "input", "weight"),
    **dict.fromkeys(("matmul", "mm", "__matmul__"), ("input", "weight")),
}
_TURNED = {"addmm", "matmul", "mm", "__matmul__"}
_ATTENTION = "multi_head_attention_forward"
_IN_PROJ, _OUT_PROJ = (5, 6), (11, 12)
"""Where weight and bias stand among the arguments of torch's attention."""


@dataclass(frozen=True, eq=False)
class Call:
    """A product that is about to be computed."""

    layer: str
    """Module that owns the weight; of one that owns several the weight's own name."""
    parameter: str
    """The weight's name."""
    first: int
    """Row of the weight where that of the product begins: code may take a part of it."""
    product: Product
    inputs: Tensor
    """(N, …), for torch's own attention with the samples first whatever the module takes."""


class Watch(TorchFunctionMode):
    """Tells of products before and after they are computed. What it does itself is not seen."""

    def __init__(self, network: nn.Module) -> None:
        """Of a network.

        Args:
            network: Its weights are watched, but for those that have several owners.
        """
        super().__init__()
        self._weights = _weights(network)
        self._held = Held(network)
        self._computed: list[Computed] = []
        self._recurrent = {
            id(module._parameters["weight_ih_l0"]): name
            for name, module in network.named_modules()
            if "weight_ih_l0" in module._parameters
        }
        self._network = network

    def __enter__(self) -> Any:
        """Begin to see."""
        self._computed = self._held.__enter__()  # kept: they are known by identity
        self._weights |= {id(each.weight): (each.layer, each.parameter) for each in self._computed}
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *exception: Any) -> None:
        """End."""
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._held.__exit__(*exception)

    def before(self, call: Call) -> None:
        """A product is about to be computed; its weights may be changed."""

    def after(self, call: Call, outputs: Callable[[], Tensor]) -> None:
        """A product was computed.

        Args:
            call: Which.
            outputs: Gives them, laid out as its inputs are.
        """

    def gave(self, call: Call, result: Tensor, turn: tuple[int, ...] | None) -> None:
        """The network goes on with a tensor.

        Args:
            call: The product that made it.
            result: The outputs.
            turn: Dimensions of the outputs, as `after` gives them, in the order that they have here; None if the same.
        """

    def rolls(self, roll: Roll) -> None:
        """A recurrent layer is about to run; its weights may be changed."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        kwargs = kwargs or {}
        name = called(func)
        if name == _ATTENTION:
            return self._attention(func, args, kwargs)
        if name in RECURRENT and (roll := self._roll(name, func, args)) is not None:
            self.rolls(roll)
        call = self._call(name, args, kwargs) if name in _ARGUMENTS else None
        if call is None:
            return func(*args, **kwargs)
        self.before(call)
        result = func(*args, **kwargs)
        self.after(call, lambda: result)
        self.gave(call, result, None)
        return result

    def _roll(self, name: str, func: Callable[..., Any], args: tuple[Any, ...]) -> Roll | None:
        weights = args[2] if len(args) > 2 else ()
        layer = self._recurrent.get(id(weights[0])) if isinstance(weights, list | tuple) and weights else None
        return None if layer is None else Roll.of(layer, name, func, args)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        given = {**dict(zip(_ARGUMENTS[name], args, strict=False)), **kwargs}
        inputs, weight, bias = given.pop("input", None), given.pop("weight", None), given.pop("bias", None)
        if not _is_tensor(inputs) or len(args) > len(_ARGUMENTS[name]) or given.keys() - set(_ARGUMENTS[name]):
            return None
        if name in _TURNED or name == "linear":
            if not _is_tensor(weight) or weight.dim() != 2:
                return None
            product = Product(weight, bias, "turned" if name in _TURNED else "linear")
        elif not _is_tensor(weight) or inputs.dim() != weight.dim():
            return None
        else:
            product = _convolution(weight, bias, transposed=name.startswith("conv_t"), **given)
        return self._named(product, inputs)

    def _named(self, product: Product, inputs: Tensor) -> Call | None:
        """The call of a product whose weight is one of the network's, or consecutive rows of one."""
        weight = product.weight
        base, first = weight, 0
        if id(weight) not in self._weights and weight._base is not None:
            base = weight._base
            if weight.shape[1:] != base.shape[1:] or not (weight.is_contiguous() and base.is_contiguous()):
                return None
            first = (weight.storage_offset() - base.storage_offset()) // base[0].numel()
        if id(base) not in self._weights:
            return None
        layer, parameter = self._weights[id(base)]
        return Call(layer, parameter, first, product, inputs)

    def _attention(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Attention as torch has it, (T, N, E): projected in by it, and out by a product of its own."""
        import torch
        from torch.nn.functional import linear

        query = args[0]
        weight, bias = (args[at] for at in _OUT_PROJ)
        out = None if query.dim() != 3 else self._named(Product(weight, bias), query)
        if out is None:
            return func(*args, **kwargs)
        if args[0] is args[1] is args[2] and not kwargs.get("use_separate_proj_weight"):
            weight, bias = (args[at] for at in _IN_PROJ)
            packed = self._named(Product(weight, bias), query.transpose(0, 1))
            if packed is not None:
                self.before(packed)
                self.after(packed, partial(linear, packed.inputs, weight, bias))
        weight, bias = out.product.weight, out.product.bias
        plain = list(args)
        plain[_OUT_PROJ[0]] = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        plain[_OUT_PROJ[1]] = None
        mixed, told = func(*plain, **kwargs)
        call = Call(out.layer, out.parameter, out.first, out.product, mixed.transpose(0, 1))
        self.before(call)
        result = linear(mixed, weight, bias)
        self.after(call, lambda: result.transpose(0, 1))
        self.gave(call, result, (1, 0, 2))
        return result, told


def called(func: Callable[..., Any]) -> str:
    """A function's name, without an operator's overload."""
    return getattr(func, "__name__", "").partition(".")[0]


def parameter_of(tensor: Any) -> Any:
    """The tensor whose numbers it shows: itself, or what it is a view of."""
    return tensor if tensor._base is None else tensor._base


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _weights(network: nn.Module) -> dict[int, tuple[str, str]]:
    """Identity of a parameter to what its layer is called, and to its own name."""
    counts, found = owners(network), {}
    for name, module in network.named_modules():
        own = [(key, each) for key, each in module._parameters.items() if each is not None and each.dim() > 1]
        for key, weight in own:
            if counts[id(weight)] == 1 and weight.is_floating_point():
                full = f"{name}.{key}" if name else key
                found[id(weight)] = (name if len(own) == 1 else full, full)
    return found


def _convolution(
    weight: Tensor,
    bias: Tensor | None,
    *,
    transposed: bool,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    output_padding: Any = 0,
) -> Product:
    kernel = weight.shape[2:]

    def each(value: Any) -> tuple[int, ...]:
        values = (value,) if isinstance(value, int) else tuple(value)
        return values * len(kernel) if len(values) == 1 else values

    if padding == "same":
        whole = [d * (k - 1) for d, k in zip(each(dilation), kernel, strict=True)]
        edges = tuple((total // 2, total - total // 2) for total in whole)
    else:
        edges = tuple((p, p) for p in each(0 if padding == "valid" else padding))
    return Product(
        weight,
        bias,
        "convolution",
        each(stride),
        edges,
        dilation=each(dilation),
        output_padding=each(output_padding),
        groups=groups,
        transposed=transposed,
    )
