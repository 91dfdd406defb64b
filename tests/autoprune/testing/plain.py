"""The bench in a process without pytest."""

from __future__ import annotations

import sys


def groups_without_pytest() -> int:
    """How many groups the toy has."""
    sys.modules["pytest"] = None  # type: ignore[assignment]
    assert not [name for name in sys.modules if name.startswith("autoprune.testing")]
    from autoprune.testing import Bench

    return len(Bench().uniform(0))
