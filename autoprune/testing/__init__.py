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
    from autoprune.testing.evaluators import EvaluatorConformance
    from autoprune.testing.executors import ExecutorConformance
    from autoprune.testing.exporters import ExporterConformance
    from autoprune.testing.observers import ObserverConformance
    from autoprune.testing.samplers import SamplerConformance
    from autoprune.testing.scorers import ScorerConformance
    from autoprune.testing.sources import DataSourceConformance, ModelSourceConformance
    from autoprune.testing.strategies import RecoveryConformance, StrategyConformance
    from autoprune.testing.tasks import TaskConformance
    from autoprune.testing.toys import ToyNet, ToyScorer, toy_data, toy_network
    from autoprune.testing.transforms import TransformConformance

__all__ = [
    "Bench",
    "DataSourceConformance",
    "EvaluatorConformance",
    "ExecutorConformance",
    "ExporterConformance",
    "ModelSourceConformance",
    "ObserverConformance",
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
    "EvaluatorConformance": "evaluators",
    "ExecutorConformance": "executors",
    "ExporterConformance": "exporters",
    "ModelSourceConformance": "sources",
    "ObserverConformance": "observers",
    "RecoveryConformance": "strategies",
    "SamplerConformance": "samplers",
    "ScorerConformance": "scorers",
    "StrategyConformance": "strategies",
    "TaskConformance": "tasks",
    "ToyNet": "toys",
    "ToyScorer": "toys",
    "TransformConformance": "transforms",
    "toy_data": "toys",
    "toy_network": "toys",
    "untouched": "bench",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
