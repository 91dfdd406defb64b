"""Digests of tensors."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import torch
from torch import Tensor


def taking(digest: blake2b) -> Callable[[Tensor], Tensor]:
    """What feeds a tensor to a digest, dtype and shape included, for whatever maps over tensors."""

    def take(tensor: Tensor) -> Tensor:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return tensor

    return take
