"""Data of the user's own, or of any installed package."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, SourceContext
from autoprune_sources._loaded import LoadedSource
from autoprune_sources._options import Target


class FactoryData(LoadedSource):
    """The splits that a function gives: ``{use: factory, target: "mydata:splits", args: {root: data}}``.

    It returns ``{"train": …, "validation": …, "test": …}``, each a torch ``Dataset``, a ``DataLoader``, a tuple of
    tensors or an iterable of batches, or an ``autoprune.plugin.Data``. The module is looked up in the spec's own folder
    first, then among the installed ones. It runs as code, so name only what you trust. What it draws at random is the
    same in every search.
    """

    name = "factory"

    target: Target = Field(description="module:callable that makes the splits, or module:name of a mapping of them.")
    args: dict[str, Any] = Field(
        default={},
        description="Keyword arguments of the callable; a path that exists beside the spec is handed over in full.",
    )

    def load(self, ctx: SourceContext) -> Data:
        """The splits; one that is not given is carved from the training split."""
        found = self._made(ctx)
        try:
            if isinstance(found, Data):
                return self._completed(found)
            if isinstance(found, Mapping):
                with _alike():  # what is read whole is read now
                    return self.of_splits(found)
            raise DataError(
                f'this is of type {type(found).__name__}, not a mapping of splits: return {{"train": …, "validation":'
                ' …, "test": …}, or "train" alone'
            )
        except DataError as error:
            raise DataError(f"target {self.target!r}: {error}") from error

    def _made(self, ctx: SourceContext) -> Any:
        from autoprune.toolkit.files import found_paths
        from autoprune.toolkit.importing import importable, look_up_any, told

        with importable(ctx.folder), _alike():
            made = look_up_any(self.target, ctx.folder)
            if not callable(made):
                if self.args:
                    raise DataError(f"target {self.target!r} is of type {type(made).__name__}, which takes no args")
                return made
            try:
                with _alike():  # again, because only the first import may draw numbers
                    return made(**found_paths(self.args, ctx.folder))
            except Exception as error:  # whatever the user's code raises
                raise DataError(f"target {self.target!r}: calling it failed: {told(error, ctx.folder)}") from error

    def _completed(self, data: Data) -> Data:
        import torch

        if self.inputs or self.targets:
            raise DataError("this is Data already, whose inputs and targets have no columns; leave those options out")
        if self.normalize is not None:
            inputs, _ = data.train.fetch(torch.arange(1))
            data = replace(data, normalization=self.normalize.of_samples(inputs.first))
        return data if self.bounds is None else replace(data, bounds=self.bounds)


@contextmanager
def _alike() -> Iterator[None]:
    """Random numbers within are always the same, and those after as they would have been."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
