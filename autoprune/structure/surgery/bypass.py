"""What stands where a residual block was."""

from __future__ import annotations

from typing import Any

from torch import nn


class Bypass(nn.Module):
    """Hands its first argument on, as the block's identity path did."""

    def __init__(self, outputs: int, block: nn.Module) -> None:
        """Stands for a block.

        Args:
            outputs: Length of the tuple that the block returned, its other items becoming None; 0 for a bare tensor.
            block: A copy of it without its parameters, for code that asks a block for its attributes.
        """
        super().__init__()
        self.outputs = outputs
        self.__dict__["_block"] = block  # not a submodule: nothing of it runs

    def __getattr__(self, name: str) -> Any:
        """The block's own attributes."""
        return getattr(self.__dict__["_block"], name)

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        """As the block's."""
        return (x, *[None] * (self.outputs - 1)) if self.outputs else x

    def extra_repr(self) -> str:
        """Shown in the network's repr."""
        return f"outputs={self.outputs}" if self.outputs else ""
