"""The files of a study's folder that are autoprune's own, kept from those who may write into it by mistake."""

from __future__ import annotations

from pathlib import Path

from autoprune.report import REPORT_FILES
from autoprune.study.folder import INFO_FILE, SPEC_FILE, STUDY_FILE

_Stamp = tuple[int, int, int]


class OwnFiles:
    """What was asked of a study, and its report."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / name for name in (SPEC_FILE, STUDY_FILE, INFO_FILE, *REPORT_FILES)]
        self._stamps: dict[Path, _Stamp | None] = {}
        self._contents: dict[Path, bytes | None] = {}

    def note(self) -> None:
        """Take down how they are; those that stayed as they were are not read again."""
        for path in self._paths:
            stamp = _stamp(path)
            if path not in self._stamps or self._stamps[path] != stamp:
                self._stamps[path] = stamp
                self._contents[path] = None if stamp is None else path.read_bytes()

    def put_back(self, into: Path) -> list[str]:
        """Undo what was done to them since.

        Args:
            into: Where what was written in their place goes; is made.

        Returns:
            Names of those that were written or removed.
        """
        changed = []
        for path in self._paths:
            kept, written = self._contents[path], None
            if _stamp(path) == self._stamps[path]:
                continue
            if path.is_file():
                written = path.read_bytes()
            if written == kept:
                continue
            changed.append(path.name)
            if written is not None:
                into.mkdir(parents=True, exist_ok=True)
                path.replace(into / path.name)
            if kept is not None:
                path.write_bytes(kept)
        return changed


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
