"""autoprune: multi-objective search of per-layer pruning ratios.

The names here are the public Python API; what plugins are written against is in `autoprune.plugin`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from autoprune.errors import (
    AutopruneError,
    DataError,
    NoFeasibleTrialError,
    PluginError,
    SpecError,
    StructureError,
    StudyError,
    TrialError,
)

if TYPE_CHECKING:
    from autoprune.api.opening import load_pruned
    from autoprune.api.saving import save_pruned
    from autoprune.api.searching import open, resume, search  # noqa: A004  autoprune.open
    from autoprune.host.binding import load_spec, spec_from_mapping
    from autoprune.plugin.hooks import hookimpl
    from autoprune.structure import discover, load_program, save_program
    from autoprune.study import SearchResult

__all__ = [
    "AutopruneError",
    "DataError",
    "NoFeasibleTrialError",
    "PluginError",
    "SearchResult",
    "SpecError",
    "StructureError",
    "StudyError",
    "TrialError",
    "discover",
    "hookimpl",
    "load_program",
    "load_pruned",
    "load_spec",
    "open",
    "resume",
    "save_program",
    "save_pruned",
    "search",
    "spec_from_mapping",
]

# PyTorch keeps what it prepared for the latest 1024 shapes of layers, beside oneDNN's kernels of them (for those see
# study/native_memory.py), and every trial brings new shapes. It reads this as torch is loaded, which in a notebook may
# have happened before.
os.environ.setdefault("LRU_CACHE_CAPACITY", "128")

# Looked up on first use, so that `import autoprune` costs neither torch nor optuna.
_LAZY = {
    "SearchResult": "autoprune.study",
    "discover": "autoprune.structure",
    "hookimpl": "autoprune.plugin.hooks",
    "load_program": "autoprune.structure",
    "load_pruned": "autoprune.api.opening",
    "load_spec": "autoprune.host.binding",
    "open": "autoprune.api.searching",
    "resume": "autoprune.api.searching",
    "save_program": "autoprune.structure",
    "save_pruned": "autoprune.api.saving",
    "search": "autoprune.api.searching",
    "spec_from_mapping": "autoprune.host.binding",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
