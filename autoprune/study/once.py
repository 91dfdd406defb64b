"""What all trials of a study share is made once, by whichever of its workers comes first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autoprune.errors import TrialError
from autoprune.study.seeding import seeded

ONCE_FOLDER = "once"


def once(folder: Path, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors that are made once in the study's life and kept in ``once/<hash of the key>.safetensors``.

    Workers that want them meanwhile wait. One that is killed while it makes them leaves nothing behind, and the next
    one makes them.

    Args:
        folder: The study's.
        key: Tells all that the tensors hang on, but for model, data and the study's seed.
        make: Makes them, of any shapes and on any device, by name.

    Returns:
        They, on the CPU; a copy of one's own.

    Raises:
        TrialError: ``make`` gives no tensors by name.
    """
    kept = folder / ONCE_FOLDER
    kept.mkdir(exist_ok=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    file = kept / f"{digest}.safetensors"
    if (found := _read(file)) is not None:
        return found
    with (kept / f"{digest}.lock").open("w") as lock, _locked(lock):
        if (found := _read(file)) is None:
            found = _made(key, make)
            for left in kept.glob(f".{digest}-*"):  # by a maker that was killed while it wrote
                left.unlink(missing_ok=True)
            unfinished = kept / f".{digest}-{os.getpid()}"
            save_file(found, unfinished, metadata={"key": key})
            unfinished.replace(file)
    return found


@dataclass(frozen=True)
class Once:
    """`once`, for the components of a study: what they make is the same, whichever trial comes first."""

    folder: Path
    """The study's."""
    seed: int
    """The study's."""
    device: torch.device

    def __call__(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of a key."""

        def made() -> Mapping[str, Tensor]:
            with seeded(self.seed, self.device):
                return make()

        return once(self.folder, key, made)


def _made(key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    made = make()
    if not isinstance(made, Mapping) or not all(isinstance(tensor, Tensor) for tensor in made.values()):
        raise TrialError(f"once({key!r}): made a {type(made).__name__}, not tensors by name")
    # Copies: a file takes no two tensors that share their memory.
    return {str(name): tensor.detach().cpu().contiguous().clone() for name, tensor in made.items()}


def _read(file: Path) -> dict[str, Tensor] | None:
    """What is kept; None where there is nothing, or what no maker wrote."""
    try:
        return dict(load_file(file))
    except (OSError, SafetensorError):
        return None


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    """Wait for the lock, where there is such a thing. It goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows: each worker makes its own, and the last one's stays
        yield
        return
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)
    yield
