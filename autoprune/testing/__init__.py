"""For authors of components: a conformance kit to subclass, and a bench with a toy network to try components on.

```python
from autoprune.testing import ScorerConformance

class TestMyScorer(ScorerConformance):
    @pytest.fixture
    def component(self):
        return MyScorer(batches=2)
```

pytest then runs every test of the kit on the component. The kits need pytest; the bench and the toys do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprune.testing.bench import Bench, untouched
    from autoprune.testing.models import (
        EvaluatorConformance,
        RecoveryConformance,
        ScorerConformance,
        StrategyConformance,
        TaskConformance,
        TransformConformance,
    )
    from autoprune.testing.samplers import SamplerConformance
    from autoprune.testing.sources import DataSourceConformance, ModelSourceConformance
    from autoprune.testing.toys import ToyNet, ToyScorer, toy_data, toy_network

__all__ = [
    "Bench",
    "DataSourceConformance",
    "EvaluatorConformance",
    "ModelSourceConformance",
    "RecoveryConformance",
    "SamplerConformance",
    "ScorerConformance",
    "StrategyConformance",
    "TaskConformance",
    "ToyNet",
    "ToyScorer",
    "TransformConformance",
    "toy_data",
    "toy_network",
    "untouched",
]

# Looked up on first use, so that the bench and the toys work where pytest is not installed.
_LAZY = {
    "Bench": "bench",
    "DataSourceConformance": "sources",
    "EvaluatorConformance": "models",
    "ModelSourceConformance": "sources",
    "RecoveryConformance": "models",
    "SamplerConformance": "samplers",
    "ScorerConformance": "models",
    "StrategyConformance": "models",
    "TaskConformance": "models",
    "TransformConformance": "models",
    "ToyNet": "toys",
    "ToyScorer": "toys",
    "toy_data": "toys",
    "toy_network": "toys",
    "untouched": "bench",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
