"""Single Python files that bring components, without a package around them."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from autoprune.errors import PluginError
from autoprune.host.checks import BrokenComponentError, cause
from autoprune.plugin.component import Component


@dataclass(frozen=True)
class PluginFile:
    """A file as it was read. Equal content is the same plugin, wherever it lies: the study's copy and the original."""

    path: Path = field(compare=False)
    """Resolved."""
    source: bytes = field(repr=False)

    @property
    def module(self) -> str:
        """Name of its module: of the content, so that workers, too, find pickled objects of its classes."""
        return f"autoprune_file_{hashlib.sha256(self.source).hexdigest()[:16]}"

    def load(self) -> ModuleType:
        """Run it, unless this process has.

        Raises:
            PluginError: It fails.
        """
        known = sys.modules.get(self.module)
        if known is not None:
            return known
        module = ModuleType(self.module)
        module.__file__ = str(self.path)
        sys.modules[self.module] = module  # where pydantic looks annotations up
        try:
            exec(compile(self.source, str(self.path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102  asked for
        except BaseException as error:
            del sys.modules[self.module]
            if isinstance(error, KeyboardInterrupt):
                raise
            raise PluginError(f"{self.path}:{line_of(error, module)}: {cause(error)}") from error
        return module

    def defined(self, module: ModuleType) -> tuple[type[Component], ...]:
        """The component classes with a name that are defined in it, in order."""
        return tuple(
            each
            for each in vars(module).values()
            if isinstance(each, type)
            and issubclass(each, Component)
            and each.__module__ == module.__name__
            and "name" in vars(each)
        )


def read_file(path: str | Path) -> PluginFile:
    """A file's content.

    Raises:
        PluginError: It cannot be read.
    """
    try:
        return PluginFile(Path(path).resolve(), Path(path).read_bytes())
    except OSError as error:
        raise PluginError(f"{path}: cannot be read: {error.strerror}") from error


def line_of(error: BaseException, module: ModuleType) -> int:
    """The line of a plugin's file that an error is to be blamed on; the first where nothing tells."""
    if isinstance(error, SyntaxError) and error.filename == module.__file__:
        return error.lineno or 1
    if isinstance(error, BrokenComponentError):
        with contextlib.suppress(OSError, TypeError):
            return inspect.getsourcelines(error.component)[1]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__]
    return lines[-1] or 1 if lines else 1
