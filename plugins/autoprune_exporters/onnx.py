"""ONNX, for runtimes other than PyTorch."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin import Artifact, Exporter

if TYPE_CHECKING:
    from torch import nn

    from autoprune.plugin import ExportContext, Inputs, Normalization


class Onnx(Exporter):
    """Writes ``model.onnx`` by ``torch.onnx``, for any batch size. Needs the extra ``autoprune[onnx]``."""

    name = "onnx"

    normalize: bool = Field(
        default=True,
        description="Put the data's normalisation in front, so that the file takes inputs in input units (an image in"
        " [0, 1]).",
    )
    opset: int | None = Field(
        default=None, ge=18, description="Version of ONNX's operators; PyTorch's choice if left out."
    )

    def refuses(self) -> str | None:
        """Packages that are missing."""
        missing = [package for package in ("onnx", "onnxscript") if importlib.util.find_spec(package) is None]
        return f"needs {' and '.join(missing)}: pip install 'autoprune[onnx]'" if missing else None

    def export(self, model: nn.Module, examples: Inputs, folder: Path, ctx: ExportContext) -> Artifact:
        """Write it.

        Raises:
            TrialError: PyTorch cannot translate the model, or not for any batch size.
        """
        import torch
        from torch.export import Dim, ShapesCollection

        sizes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
        for tensor in examples.tensors:
            sizes[tensor] = {0: Dim.AUTO}
        args, kwargs, file = examples.args, dict(examples.kwargs), folder / "model.onnx"
        normalization = ctx.normalization if self.normalize else None
        with torch.no_grad(), _normalizing(model, examples, normalization), _quiet():
            try:
                shapes = sizes.dynamic_shapes(model, args, kwargs)
                program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
                options: dict[str, Any] = {} if self.opset is None else {"opset_version": self.opset}
                torch.onnx.export(program, f=file, dynamo=True, external_data=False, verbose=False, **options)
            except Exception as error:  # torch raises dozens of types, some of them private
                cause = (str(error).strip().splitlines() or [""])[0]
                raise TrialError(f"torch.onnx cannot translate {type(model).__name__}: {cause}") from error
        raw = self.normalize or ctx.normalization is None
        return Artifact(file, f"ONNX, takes {'inputs in input units' if raw else 'normalised inputs'}")


@contextmanager
def _normalizing(model: nn.Module, examples: Inputs, normalization: Normalization | None) -> Iterator[None]:
    """Have the model normalise the first of its inputs itself."""
    import torch

    if normalization is None:
        yield
        return
    shape = (1, -1, *[1] * (examples.first.dim() - 2))
    mean, std = (torch.tensor(values).view(shape) for values in (normalization.mean, normalization.std))
    first = None if examples.args else next(iter(examples.kwargs))

    def normalize(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if first is None:
            return ((args[0] - mean) / std, *args[1:]), kwargs
        return args, {**kwargs, first: (kwargs[first] - mean) / std}

    handle = model.register_forward_pre_hook(normalize, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what torch says of missing packages, its own deprecations and graphs that it gave up."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
