"""Whether a copy of a network still uses what it is a copy of."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from autoprune.structure.surgery.copying import named_tensors


def used(network: nn.Module, run: Callable[[], Any], *, besides: Collection[str] = ()) -> str | None:
    """The first parameter or buffer of a network that some code uses; None if it uses none.

    Args:
        network: The dense one.
        run: Runs a copy that shares no tensor with it, or the network itself.
        besides: Those that do not count.
    """
    named = named_tensors(network)
    counting = {name: tensor for name, tensor in named.items() if tensor.numel() and name not in besides}
    watch = _Watch({_place(tensor): name for name, tensor in counting.items()})
    with watch:
        run()
    return watch.found


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at what operators take."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names
        self.found: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.found is None:
            taken = (leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            self.found = next((self._names[_place(each)] for each in taken if _place(each) in self._names), None)
        return func(*args, **kwargs)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
