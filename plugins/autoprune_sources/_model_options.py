"""Options that model sources share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

_KINDS = (".safetensors", ".pt", ".pth")


def _of_a_kind(path: Path) -> Path:
    if path.suffix not in _KINDS:
        raise ValueError(f"weights end in {', '.join(_KINDS)}")
    return path


WeightsFile = Annotated[
    Annotated[Path, AfterValidator(_of_a_kind)] | None,
    Field(description=".safetensors, .pt or .pth file with the trained weights; the model's own if left out."),
]
Strict = Annotated[bool, Field(description="Refuse weights whose names are not exactly the model's.")]
