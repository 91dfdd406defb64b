"""A plan is data: which indices every tensor keeps and which attributes change.

Making it needs the structure; applying it needs only the dense module, so that a saved model is a plan and its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """How a dense module becomes a smaller one."""

    kept: Mapping[str, Mapping[int, Tensor]]
    """Tensor name to dimension to the sorted indices that stay, int64."""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Module name to attribute to its new value."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameter name to a bool for each of its dense entries, False where it is set to zero."""
    bypassed: Mapping[str, int] = field(default_factory=dict)
    """Name of a module that is left out to the length of the tuple that it returned; 0 for a bare tensor."""
