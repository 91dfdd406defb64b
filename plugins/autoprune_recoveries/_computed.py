"""Weights that modules compute from other parameters, as norm times direction, held still while a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from autoprune.toolkit.layers import owners

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Computed:
    """A weight that is not a parameter itself."""

    layer: str
    """Module that it belongs to."""
    parameter: str
    """Name of the parameter of its shape that it is computed from."""
    weight: Tensor
    """The network multiplies by this tensor and no other while it is held."""


class Held:
    """Holds computed weights; when it ends, what was written into them is what the modules compute from then on."""

    def __init__(self, network: nn.Module) -> None:
        """Of a network.

        Args:
            network: Weights are held that can be set: `torch.nn.utils.weight_norm` in both of its forms, and
                parametrizations with a right inverse that keeps what it is given.
        """
        self._network = network
        self._stack = ExitStack()
        self._held: list[tuple[Computed, Tensor, _Form]] = []

    def __enter__(self) -> list[Computed]:
        """Compute them once for all."""
        import torch
        from torch.nn.utils import parametrize

        with torch.no_grad(), ExitStack() as stack:
            found = list(_found(self._network))
            for _, form in found:
                stack.callback(form.release)
                form.hold()
            stack.enter_context(parametrize.cached())  # is left first
            for computed, form in found:
                weight = form.weight()
                self._held.append((Computed(*computed, weight), weight.clone(), form))
            self._stack = stack.pop_all()
        return [computed for computed, _, _ in self._held]

    def __exit__(self, *exception: Any) -> None:
        """Let the modules compute their weights again."""
        import torch

        held, self._held = self._held, []
        self._stack.close()
        with torch.no_grad():
            for computed, before, form in held:
                if not torch.equal(computed.weight, before):
                    form.set(computed.weight)


def _found(network: nn.Module) -> Iterator[tuple[tuple[str, str], _Form]]:
    """Layer and parameter, and how its weight is computed."""
    counts = owners(network)
    for name, module in network.named_modules():
        form: _Form | None = _Hooked.of(module) or _Parametrized.of(module)
        if form is not None and all(counts[id(each)] == 1 for each in form.originals.values()):
            shape = form.weight().shape
            like = [key for key, each in form.originals.items() if each.shape == shape]
            if like and form.settable():
                yield (name, f"{name}.{like[-1]}".removeprefix(".")), form


class _Hooked:
    """A weight that ``torch.nn.utils.weight_norm`` computes in a hook before each run."""

    def __init__(self, module: Any, hook: Any) -> None:
        self._module, self._hook = module, hook
        self._key = next(key for key, each in module._forward_pre_hooks.items() if each is hook)
        self.originals = {f"{hook.name}_{part}": getattr(module, f"{hook.name}_{part}") for part in ("g", "v")}

    @classmethod
    def of(cls, module: Any) -> Self | None:
        from torch.nn.utils.weight_norm import WeightNorm

        hooks = [each for each in module._forward_pre_hooks.values() if isinstance(each, WeightNorm)]
        if len(hooks) != 1:
            return None
        form = cls(module, hooks[0])
        others = [each for name, each in module._parameters.items() if name not in form.originals]
        return None if any(each is not None and each.dim() > 1 for each in others) else form

    def weight(self) -> Tensor:
        weight: Tensor = getattr(self._module, self._hook.name)
        return weight

    def settable(self) -> bool:
        return True

    def hold(self) -> None:
        setattr(self._module, self._hook.name, self._hook.compute_weight(self._module))
        del self._module._forward_pre_hooks[self._key]

    def release(self) -> None:
        self._module._forward_pre_hooks[self._key] = self._hook
        self._module._forward_pre_hooks.move_to_end(self._key, last=False)

    def set(self, weight: Tensor) -> None:
        from torch import norm_except_dim

        norm, direction = self.originals.values()
        direction.copy_(weight)
        norm.copy_(norm_except_dim(weight, 2, self._hook.dim))


class _Parametrized:
    """A weight of ``torch.nn.utils.parametrize``."""

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name = module, name
        parameters = module.parametrizations[name]._parameters
        self.originals = {f"parametrizations.{name}.{key}": each for key, each in parameters.items()}

    @classmethod
    def of(cls, module: Any) -> Self | None:
        from torch.nn.utils import parametrize

        if not parametrize.is_parametrized(module) or len(module.parametrizations) > 1:
            return None
        if any(each is not None and each.dim() > 1 for each in module._parameters.values()):
            return None
        return cls(module, next(iter(module.parametrizations)))

    def weight(self) -> Tensor:
        weight: Tensor = getattr(self._module, self._name)
        return weight

    def settable(self) -> bool:
        """Whether what is set comes back; it is tried."""
        import torch

        before = [each.clone() for each in self.originals.values()]
        wanted = self.weight() * 1.5 + 0.01
        try:
            self.set(wanted)
            return torch.allclose(self.weight(), wanted, rtol=1e-4, atol=1e-6)
        except (NotImplementedError, ValueError, RuntimeError):
            return False
        finally:
            for each, value in zip(self.originals.values(), before, strict=True):
                each.data = value  # a right inverse may have set the data of others

    def hold(self) -> None:
        """Is done by `parametrize.cached`."""

    def release(self) -> None:
        """Is done by `parametrize.cached`."""

    def set(self, weight: Tensor) -> None:
        setattr(self._module, self._name, weight)


_Form = _Hooked | _Parametrized
