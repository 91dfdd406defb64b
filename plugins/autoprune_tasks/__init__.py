"""First-party tasks: classification, regression."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The tasks of this package."""
    from autoprune_tasks.classification import Classification
    from autoprune_tasks.regression import Regression

    return Classification, Regression
