"""How much a file may unpack to: a few kilobytes of a compressed one can stand for all the memory that there is."""

from __future__ import annotations

from pathlib import Path

from autoprune import DataError

_TIMES = 100
_ANYWAY = 256 << 20


def check_unpacked(file: Path, size: int, *, what: str = "") -> None:
    """Refuse a file that would unpack to far more than it is.

    Args:
        file: The compressed file.
        size: Bytes that come out of it, as far as that is known.
        what: The part of it that is meant.

    Raises:
        DataError: It is more than 256 MB, and more than a hundred times the file.
    """
    if size > max(_ANYWAY, most := _TIMES * file.stat().st_size):
        part = f" ({what})" if what else ""
        raise DataError(
            f"{file}{part}: unpacks to {size / (1 << 20):,.0f} MB or more, over {_TIMES} times the file's"
            f" {most / _TIMES / (1 << 20):.3g} MB; write it uncompressed if that is meant"
        )
