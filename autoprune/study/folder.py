"""The folder of a study.

``spec.yaml`` as it was read, ``study.json`` (what was asked), ``info.json`` (what observers are told), ``journal.log``
(Optuna's), ``warm_start.json`` (what it began with), ``plugins/`` (copies of the plugin files), ``models/<trial>/`` of
the front, ``workers/<number>.log`` and what trackers keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from autoprune.errors import StudyError
from autoprune.host.binding import load_spec
from autoprune.host.files import PluginFile
from autoprune.host.plugins import PluginHost
from autoprune.plugin import StudyInfo
from autoprune.spec import Spec, write_text
from autoprune.spec.secrets import taken_out
from autoprune.toolkit.files import json_of, malformed, plain_file

SPEC_FILE, STUDY_FILE, INFO_FILE, JOURNAL_FILE = "spec.yaml", "study.json", "info.json", "journal.log"
PLUGINS = "plugins"
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class StudyFolder:
    """Where a study lives, and what was asked of it."""

    path: Path
    name: str
    """Of the study in its storage."""
    trials: int
    """The asked number of trials."""
    spec_folder: Path
    """Relative paths of the spec start here."""
    overrides: tuple[str, ...]
    """The ``path.to.key=value`` to lay over the spec."""
    plugins: tuple[str, ...] = ()
    """Names of the copies of plugin files, in the order of loading."""

    @classmethod
    def create(cls, spec: Spec, host: PluginHost) -> Self:
        """Make the folder of a new study.

        Raises:
            StudyError: It is there already and not empty, or cannot be made.
        """
        document = spec.document
        try:
            path = _new_folder(spec)
        except OSError as error:
            raise StudyError(f"the study's folder cannot be made: {error}") from error
        plugins = _copied(host.files, path / PLUGINS)
        if document.secret:
            return cls._without_secrets(path, spec, plugins)
        folder = cls(path, path.name, spec.search.trials, document.folder.resolve(), document.overrides, plugins)
        (path / SPEC_FILE).write_text(document.text, encoding="utf-8")
        if not document.text or folder.spec(host) != spec:  # made or changed in Python
            folder = replace(folder, overrides=())
            (path / SPEC_FILE).write_text(json.dumps(spec.model_dump(mode="json"), indent=2), encoding="utf-8")
        folder.write()
        return folder

    @classmethod
    def _without_secrets(cls, path: Path, spec: Spec, plugins: tuple[str, ...]) -> Self:
        """Of a spec that has passwords in it, which are not kept: the study asks environment variables for them.

        They are set for the processes that this one starts; who resumes the study sets them.
        """
        text, variables = taken_out(spec.model_dump(mode="json"), write_text)
        os.environ.update(variables)
        (path / SPEC_FILE).write_text(text, encoding="utf-8")
        folder = cls(path, path.name, spec.search.trials, spec.document.folder.resolve(), (), plugins)
        folder.write()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder of an earlier study.

        Raises:
            StudyError: There is no study in it.
        """
        path = path.resolve()
        try:
            stored = _Stored.model_validate(_read(path / STUDY_FILE))
        except OSError as error:
            raise StudyError(f"{path} holds no study: {error.strerror}: {error.filename}") from error
        except ValueError as error:
            raise StudyError(f"{path / STUDY_FILE} is malformed: {malformed(error)}") from error
        return cls(path, stored.name, stored.trials, stored.spec_folder, stored.overrides, stored.plugins)

    @property
    def plugin_files(self) -> tuple[Path, ...]:
        """The copies of the plugin files, in the order of loading."""
        return tuple(self.path / PLUGINS / name for name in self.plugins)

    def spec(self, host: PluginHost) -> Spec:
        """The study's spec, read anew; its relative paths start where they always did.

        The plugin files are the study's copies, whatever became of those that the spec names.
        """
        return load_spec(
            self.path / SPEC_FILE,
            overrides=self.overrides,
            host=host,
            folder=self.spec_folder,
            kept=self.plugin_files,
        )

    def write(self) -> None:
        """Write ``study.json``, whole or not at all."""
        stored = {
            "name": self.name,
            "trials": self.trials,
            "spec_folder": str(self.spec_folder),
            "overrides": list(self.overrides),
            "plugins": list(self.plugins),
        }
        unfinished = self.path / f".{STUDY_FILE}"
        unfinished.write_text(json.dumps(stored, indent=1), encoding="utf-8")
        unfinished.replace(self.path / STUDY_FILE)

    @property
    def begun(self) -> bool:
        """Whether a session has begun."""
        return (self.path / INFO_FILE).exists()

    def write_info(self, info: StudyInfo) -> None:
        """Keep what observers are told of the study, for whoever reads it later; the spec has a file of its own."""
        text = info.model_dump_json(exclude={"spec", "finished"}, indent=1)
        (self.path / INFO_FILE).write_text(text, encoding="utf-8")

    def read_info(self, spec: Spec) -> StudyInfo:
        """What observers were told of the study when its first session began.

        Raises:
            StudyError: No session has begun, or what it wrote is malformed.
        """
        if not self.begun:
            raise StudyError(f"{self.path} holds a study that has not begun; `autoprune resume` begins it")
        try:
            stored = _read(self.path / INFO_FILE)
            if not isinstance(stored, dict):
                raise ValueError("it is no mapping")
            now = {"spec": spec, "trials": self.trials, "folder": self.path}  # it may have been moved or copied
            info = StudyInfo.model_validate(stored | now)
            if info.objectives != spec.objectives:
                raise ValueError("its objectives are not the spec's")
            if "spec_hash" not in info.environment:
                raise ValueError("it has no spec_hash")
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.path / INFO_FILE} is malformed: {malformed(error)}") from error
        return info

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second session out of the study. The lock goes with the process, however it ends.

        Raises:
            StudyError: Another session works on the study.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(f"another session is working on {self.path}; wait for it or end it first") from None
            except OSError:  # a file system without locks
                pass
            yield


class _Stored(BaseModel):
    """What ``study.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=1000)
    trials: int = Field(ge=1, lt=2**31)
    spec_folder: Path
    overrides: tuple[str, ...]
    plugins: tuple[Annotated[str, Field(pattern=r"^[^/\\\x00]+\.py$")], ...]


def _read(file: Path) -> Any:
    return json_of(plain_file(file, most=_MOST_BYTES).read_bytes())


def _copied(files: Sequence[PluginFile], folder: Path) -> tuple[str, ...]:
    """Write the files as they were loaded; names that tell them apart."""
    names: list[str] = []
    for file in files:
        stems = (file.path.stem if n == 1 else f"{file.path.stem}-{n}" for n in count(1))
        names.append(next(f"{stem}.py" for stem in stems if f"{stem}.py" not in names))
        folder.mkdir(exist_ok=True)
        (folder / names[-1]).write_bytes(file.source)
    return tuple(names)


def _new_folder(spec: Spec) -> Path:
    if spec.output is not None:
        path = (spec.document.folder / spec.output).resolve()
        path.mkdir(parents=True, exist_ok=True)
        if (path / STUDY_FILE).exists():
            raise StudyError(f"{path} holds a study; continue it with `autoprune resume`, or choose another `output:`")
        if any(path.iterdir()):
            raise StudyError(f"{path} is not empty; choose another `output:`")
        return path
    runs = Path.cwd() / "runs"
    runs.mkdir(exist_ok=True)
    numbers = [entry.name.removeprefix(f"{spec.name}-") for entry in runs.glob(f"{spec.name}-*")]
    number = max((int(n) for n in numbers if n.isdecimal()), default=0)
    while True:
        number += 1
        path = runs / f"{spec.name}-{number}"
        try:
            path.mkdir()
        except FileExistsError:  # another search was quicker
            continue
        return path
