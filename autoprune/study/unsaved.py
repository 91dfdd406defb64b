"""What a strategy did to a network and a saved model would not have: told before it is measured."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils import parametrize

from autoprune.structure.surgery.attention import CutMultiheadAttention
from autoprune.structure.surgery.bypass import Bypass
from autoprune.structure.surgery.graph_network import GraphNetwork

_STAND_INS = (CutMultiheadAttention, Bypass)
"""What the engine itself puts in place of modules."""
_HOOKS = {
    "_forward_hooks": "a forward hook",
    "_forward_pre_hooks": "a forward hook",
    "_backward_hooks": "a backward hook",
    "_backward_pre_hooks": "a backward hook",
}


def lost_when_saved(network: nn.Module, dense: nn.Module) -> str | None:
    """What a saved model would not have of a pruned network: hooks, modules of other classes, methods put over others.

    A saved model is the dense model's own modules, cut, with other weights.

    Args:
        network: As a strategy returned it.
        dense: The dense network.

    Returns:
        One line that names the module and says what to do instead; None if all is well.
    """
    found = _lost(network, dense)
    return found and f"{found}, which a saved model would not have; replace modules by a transform (`transforms:`)"


def _lost(network: nn.Module, dense: nn.Module) -> str | None:
    modules, before = dict(network.named_modules()), dict(dense.named_modules())
    graph = isinstance(network, GraphNetwork)  # its modules are its own, and are saved with it
    stood_in = tuple(f"{name}." for name, module in modules.items() if isinstance(module, _STAND_INS))
    for name, module in modules.items():
        own, where = before.get(name), f"module {name}" if name else "the network"
        if change := _patched(module, None if graph else own):
            return f"{where} has {change}"
        if graph or isinstance(module, _STAND_INS) or name.startswith(stood_in):
            continue
        if own is None:
            return f"module {name} ({type(module).__name__}) is new"
        if not _same_class(module, own):
            return f"{where} is a {type(module).__name__}, not a {type(own).__name__}"
    if not graph:
        for name, own in before.items():
            if name not in modules and not name.startswith(stood_in):
                return f"module {name} ({type(own).__name__}) is gone"
    return None


def _patched(module: nn.Module, dense: nn.Module | None) -> str:
    """What was hung on a module, in words, beyond what the dense network's has."""
    if parametrize.is_parametrized(module) and not (dense and parametrize.is_parametrized(dense)):
        return f"a parametrization of {next(iter(module.parametrizations))}"  # type: ignore[arg-type]
    own, before = vars(module), {} if dense is None else vars(dense)
    for held, words in _HOOKS.items():
        if len(own[held]) > len(before.get(held, ())):
            return words
    for name, value in own.items():
        if name not in before and callable(value) and hasattr(type(module), name) and name != "_compiled_call_impl":
            return f"a {name} of its own"
    return ""


def _same_class(module: nn.Module, dense: nn.Module) -> bool:
    """By name: a factory may make its classes anew each time it builds."""
    if isinstance(module, fx.GraphModule) and isinstance(dense, fx.GraphModule):
        return True  # each is of a class of its own
    kinds = [(kind.__module__, kind.__qualname__) for kind in (type(module), type(dense))]
    return kinds[0] == kinds[1]
