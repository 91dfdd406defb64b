"""A model of several outputs, as what reads one of them alone wants it."""

from __future__ import annotations

from typing import Any

from torch import nn


class OneHead(nn.Module):
    """Predicts what a model has under one name; shares the model."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.training = model.training  # and no more: the modes of what is inside are the caller's

    @property
    def network(self) -> Any:
        """The bare network."""
        return self.model.network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of that name."""
        return self.model(*args, **kwargs)[self.head]
