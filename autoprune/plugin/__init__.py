"""What a plugin is written against: contracts, the value objects they see, and the hooks."""

from autoprune.plugin.components import (
    Component,
    DataSource,
    Evaluator,
    ExactEvaluator,
    ModelSource,
    Recovery,
    Sampler,
    Scorer,
    Strategy,
)
from autoprune.plugin.contexts import Context, EvaluationContext, PruneContext, ScoreContext, SourceContext
from autoprune.plugin.data import Batch, Data, Normalization, Split, SplitName
from autoprune.plugin.hookspecs import hookimpl
from autoprune.plugin.results import (
    Facts,
    Front,
    FrontPoint,
    GroupSummary,
    StudyInfo,
    StudyOutcome,
    TrialResult,
)
from autoprune.plugin.values import Candidate, Cost, Costs, Group, Measured, Metric, PrunedModel, Role, Slice

__all__ = [
    "Batch",
    "Candidate",
    "Component",
    "Context",
    "Cost",
    "Costs",
    "Data",
    "DataSource",
    "EvaluationContext",
    "Evaluator",
    "ExactEvaluator",
    "Facts",
    "Front",
    "FrontPoint",
    "Group",
    "GroupSummary",
    "Measured",
    "Metric",
    "ModelSource",
    "Normalization",
    "PruneContext",
    "PrunedModel",
    "Recovery",
    "Role",
    "Sampler",
    "ScoreContext",
    "Scorer",
    "Slice",
    "SourceContext",
    "Split",
    "SplitName",
    "Strategy",
    "StudyInfo",
    "StudyOutcome",
    "TrialResult",
    "hookimpl",
]
