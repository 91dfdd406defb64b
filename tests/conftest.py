"""For all tests."""

from __future__ import annotations

import os

# Tests run side by side, and two OpenMP pools on two busy cores make small nets ten times slower. Before torch is
# imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
