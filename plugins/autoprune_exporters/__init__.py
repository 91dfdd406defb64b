"""First-party exporters: program, onnx."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The exporters of this package."""
    from autoprune_exporters.onnx import Onnx
    from autoprune_exporters.program import Program

    return Program, Onnx
