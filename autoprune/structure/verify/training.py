"""What networks give in ``train()``, so that it can be compared: without dropout, and leaving no trace."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.plugin import Inputs
from autoprune.structure.graph.trace import evaluating

_DROPOUTS = frozenset(
    {
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.alpha_dropout,
        functional.feature_alpha_dropout,
        torch.dropout,
        torch.dropout_,
        torch.feature_dropout,
        torch.alpha_dropout,
        torch.feature_alpha_dropout,
    }
)


def in_training(network: nn.Module, inputs: Inputs, *, seed: int = 0) -> list[Tensor]:
    """A network's outputs in ``train()`` without dropout; its buffers and modes are as they were afterwards.

    Args:
        network: Runs without gradients.
        inputs: Its inputs.
        seed: Of what else is random.
    """
    with evaluating(network), _buffers_kept(network), _no_dropout(network), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.train()
        outputs = inputs.feed(network)
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def learns(network: nn.Module, inputs: Inputs) -> bool:
    """Whether gradients go through a network in ``train()``, as far as its outputs have any."""
    with evaluating(network), _buffers_kept(network), torch.random.fork_rng(devices=[]), torch.enable_grad():
        network.train()
        try:
            leaves = [leaf for leaf in pytree.tree_leaves(inputs.feed(network)) if isinstance(leaf, Tensor)]
            known = [leaf.sum() for leaf in leaves if leaf.requires_grad]
            wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
            if known and wanted:
                torch.autograd.grad(known, wanted, allow_unused=True)
        except Exception:  # noqa: BLE001  the model's own code may raise anything
            return False
    return True


@dataclass(frozen=True)
class Trained:
    """What the dense network gives in ``train()``."""

    outputs: list[Tensor]
    compared: bool
    """Whether a cut's are to equal the masked one's. Otherwise it is enough that the cut one runs."""

    @classmethod
    def of(cls, network: nn.Module, inputs: Inputs, read: Collection[str]) -> Trained | None:
        """Outputs are compared where they hang on parameters that ``eval()`` does not read, and on no random numbers.

        Args:
            network: The dense one.
            inputs: Its inputs.
            read: Names of the parameters that it reads in ``eval()``.

        Returns:
            None if it does not run in ``train()`` on the inputs alone: it wants targets, say.
        """
        own = {name for name, _ in network.named_parameters()}
        try:
            outputs = in_training(network, inputs)
            again = in_training(network, inputs, seed=1) if own - set(read) else None
        except Exception:  # noqa: BLE001  the model's own code may raise anything
            return None
        return cls(outputs, again is not None and all(map(torch.equal, outputs, again)))


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Statistics go on in training, of copies that share theirs with the dense network, too."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextmanager
def _no_dropout(network: nn.Module) -> Iterator[None]:
    recurrent = [(m, m.dropout) for m in network.modules() if isinstance(m, nn.RNNBase)]
    try:
        for module, _ in recurrent:
            module.dropout = 0.0
        with _NoDropout():
            yield
    finally:
        for module, probability in recurrent:
            module.dropout = probability


class _NoDropout(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            return func(**(dict(zip(names, args, strict=False)) | kwargs | {"dropout_p": 0.0}))
        if func is functional.multi_head_attention_forward and len(args) > _DROPOUT_OF_HEADS:
            args = (*args[:_DROPOUT_OF_HEADS], 0.0, *args[_DROPOUT_OF_HEADS + 1 :])
        return func(*args, **kwargs)


_DROPOUT_OF_HEADS = 10
"""Place of ``dropout_p`` among what multi_head_attention_forward takes."""
