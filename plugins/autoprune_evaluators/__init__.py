"""First-party evaluators: quality, exact size, latency and robustness of a pruned model."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_evaluators.exact import Macs, Params, Size, Sparsity
from autoprune_evaluators.forward import Accuracy, Loss
from autoprune_evaluators.latency import Latency
from autoprune_evaluators.robustness import Fgsm, Pgd


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The evaluators of this package."""
    return (Params, Macs, Size, Sparsity, Latency, Accuracy, Loss, Fgsm, Pgd)
