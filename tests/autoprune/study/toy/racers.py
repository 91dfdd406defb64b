"""Processes that want the same tensors at the same time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from autoprune.study.once import once


def want(study: Path, seconds: float) -> None:
    """Ask for tensors that tell who made them; take down who begins to make them, and who got which."""

    def make() -> dict[str, torch.Tensor]:
        with (study / "makers").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return {"maker": torch.tensor([os.getpid()])}

    found = once(study, "who", make)
    with (study / "got").open("a") as file:
        file.write(f"{os.getpid()} {found['maker'].item()}\n")
