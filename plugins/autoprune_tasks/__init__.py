"""First-party tasks: classes, numbers, labels, positions, tokens, vectors, and several of these at once."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The tasks of this package."""
    from autoprune_tasks.classification import Classification
    from autoprune_tasks.embedding import Embedding
    from autoprune_tasks.language_models import CausalLM, MaskedLM, Seq2SeqLM
    from autoprune_tasks.multi_head import MultiHead
    from autoprune_tasks.multilabel import Multilabel
    from autoprune_tasks.regression import Regression
    from autoprune_tasks.segmentation import Segmentation

    return (
        *(Classification, Regression, Multilabel, Segmentation),
        *(CausalLM, MaskedLM, Seq2SeqLM),
        *(MultiHead, Embedding),
    )
