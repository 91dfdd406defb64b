"""Networks of transformers: their configuration is saved with them, and has to tell their sizes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.saved.configuring import Configuring, build, set_changes, with_changes
from autoprune.structure.saved.recipe import Pretrained
from autoprune.structure.surgery.bypass import Bypass
from autoprune.structure.surgery.copying import copied, named_tensors
from autoprune.structure.verify.predictions import predicts_the_same


def is_pretrained(network: nn.Module) -> bool:
    """Whether a network is of a class of transformers, which is not imported to tell."""
    return any(
        kind.__module__.startswith("transformers.") and kind.__name__ == "PreTrainedModel"
        for kind in type(network).__mro__
    )


def described(network: nn.Module, example: Inputs | None) -> Pretrained | None:
    """What is to be saved with a pruned network of transformers; None for any other.

    Args:
        network: In ``eval()``, on any device; its configuration is the dense network's. Left as it was.
        example: A few inputs, to see whether the network of a configuration predicts the same.
    """
    if not is_pretrained(network) or example is None:
        return None
    with _apart():
        try:
            whole, dropped = without_stand_ins(network)
            changes, reason = Configuring(whole, dropped).found()
            if changes is not None and not _predict_the_same(network, whole, changes, example):
                changes, reason = None, "a network of the configuration that has its sizes predicts otherwise"
        except StructureError as error:
            changes, reason = None, str(error)
    return Pretrained(config=changes, reason=reason)


def settle(network: nn.Module, told: Pretrained | None) -> None:
    """Have a network of transformers that was opened be saved truly by ``save_pretrained``, or not at all.

    Args:
        network: Changed: its configuration where that tells its sizes, or what saves it.
        told: As it was saved.
    """
    if not is_pretrained(network):
        return
    reason = "it was saved without examples of its inputs" if told is None else told.reason
    if told is None or told.config is None:
        network.save_pretrained = partial(  # type: ignore[assignment]
            _refuse,
            f"save_pretrained cannot save this pruned {type(network).__name__}: {reason}; "
            "autoprune.save_pruned(network, folder) saves it, and autoprune.load_pruned(folder) opens it",
        )
    elif any(isinstance(module, Bypass) for module in network.modules()):
        network.save_pretrained = partial(_save, network, told.config)  # type: ignore[assignment]
    else:
        set_changes(network.config, told.config)


def _refuse(reason: str, *_: Any, **__: Any) -> None:
    raise StructureError(reason)


def _save(network: nn.Module, changes: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
    """``save_pretrained`` of a network without some blocks: those after them are numbered anew."""
    whole, _ = without_stand_ins(network)
    set_changes(whole.config, changes)
    kwargs.pop("state_dict", None)  # of this network, by the old numbers
    kind: Any = type(network)
    kind.save_pretrained(whole, *args, **kwargs)


def without_stand_ins(network: nn.Module) -> tuple[nn.Module, dict[str, tuple[int, Sequence[int]]]]:
    """A copy that shares all tensors, in whose lists of blocks nothing stands for what is gone.

    Returns:
        The copy, and of each list that became shorter its length before and which of its blocks stayed.

    Raises:
        StructureError: Something is gone that is in no list.
    """
    whole = copied(network, {id(tensor): tensor for tensor in named_tensors(network).values()})
    dropped: dict[str, tuple[int, Sequence[int]]] = {}
    for name, module in list(whole.named_modules()):
        gone = [key for key, child in module.named_children() if isinstance(child, Bypass)]
        if not gone:
            continue
        if not isinstance(module, nn.ModuleList):
            raise StructureError(f"{name}.{gone[0]} is gone, which no configuration leaves out")
        stayed = [number for number, child in enumerate(module) if not isinstance(child, Bypass)]
        dropped[name] = len(module), stayed
        blocks = [module[number] for number in stayed]
        module._modules.clear()
        module.extend(blocks)
        for number, block in enumerate(blocks):
            for each in block.modules():
                if type(vars(each).get("layer_idx")) is int:
                    each.layer_idx = number  # type: ignore[assignment]
    return whole, dropped


def _predict_the_same(network: nn.Module, whole: nn.Module, changes: Mapping[str, Any], example: Inputs) -> bool:
    """Whether the network with that configuration does, and what ``from_pretrained`` would make of it."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    inputs = example.to(device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            made = build(whole, with_changes(whole.config, changes))
            made.load_state_dict(whole.state_dict())
            set_changes(whole.config, changes)
            made.eval().to(device)
        except Exception:  # noqa: BLE001  whatever the model's code raises of what does not go together
            return False
        return all(predicts_the_same(network, each, inputs) for each in (made, whole))


@contextmanager
def _apart() -> Iterator[None]:
    """What is built leaves the random generator alone, and says nothing of sizes that do not go together."""
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        log.setLevel(level)
