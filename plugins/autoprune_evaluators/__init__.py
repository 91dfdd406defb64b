"""First-party evaluators: quality, exact size, latency and robustness of a pruned model."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_evaluators.apgd import Apgd
from autoprune_evaluators.attribute import AttributeInference
from autoprune_evaluators.autoattack import AutoAttack
from autoprune_evaluators.calibration import CalibrationError
from autoprune_evaluators.corruptions import Corruption
from autoprune_evaluators.energy import Energy
from autoprune_evaluators.exact import Macs, Params, Size, Sparsity
from autoprune_evaluators.explanations import ExplanationAgreement
from autoprune_evaluators.extraction import ModelExtraction
from autoprune_evaluators.foreign import ForeignAttack
from autoprune_evaluators.forward import Accuracy, Agreement, Loss, Perplexity
from autoprune_evaluators.gaps import GeneralizationGap
from autoprune_evaluators.groups import WorstGroup
from autoprune_evaluators.indicators import (
    AccuracyLoss,
    EfficiencyImprovement,
    InferenceTimeReduction,
    ParameterReduction,
    ResourceReduction,
    RobustnessImprovement,
)
from autoprune_evaluators.inversion import ModelInversion
from autoprune_evaluators.latency import Latency, Throughput
from autoprune_evaluators.masking import Masking
from autoprune_evaluators.membership import MembershipInference
from autoprune_evaluators.memory import ActivationMemory, PeakMemory
from autoprune_evaluators.metric import UserMetric
from autoprune_evaluators.min_distance import MinDistance
from autoprune_evaluators.noise import GaussianNoise, SaltAndPepper
from autoprune_evaluators.numbers import R2, Mae, Rmse
from autoprune_evaluators.overlap import F1, MeanIou, Precision, Recall, WorstClass
from autoprune_evaluators.ranking import Auc, TopK
from autoprune_evaluators.robust_loss import RobustLoss
from autoprune_evaluators.robustness import Fgsm, Pgd
from autoprune_evaluators.square import Square
from autoprune_evaluators.text_attacks import EmbeddingAttack, TokenAttack
from autoprune_evaluators.training_time import TrainingTime


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The evaluators of this package."""
    measured = (Accuracy, Loss, Perplexity, F1, MeanIou, R2, Mae, Rmse, Agreement, UserMetric)
    classes = (TopK, Precision, Recall, Auc, CalibrationError, WorstClass, WorstGroup)
    changed = (GeneralizationGap, GaussianNoise, SaltAndPepper, Corruption, ExplanationAgreement)
    privacy = (MembershipInference, ModelExtraction, ModelInversion, AttributeInference)
    attacks = (Fgsm, Pgd, Apgd, Square, AutoAttack, ForeignAttack, RobustLoss, MinDistance, Masking)
    texts = (EmbeddingAttack, TokenAttack)
    costs = (Latency, Throughput, ActivationMemory, PeakMemory, Energy, TrainingTime)
    indicators = (ParameterReduction, ResourceReduction, InferenceTimeReduction, AccuracyLoss)
    compared = (*indicators, RobustnessImprovement, EfficiencyImprovement)
    return (Params, Macs, Size, Sparsity, *costs, *compared, *measured, *classes, *changed, *privacy, *attacks, *texts)
