"""Importing what a spec's ``target`` names, with the spec's own folder first.

A process may run several specs whose folders hold modules of one name. Modules that came from a spec's folder stay
imported, so that their classes can be pickled and inspected, until a spec of another folder imports something: then
they are forgotten, and the other folder's take their place. What was imported before, by whoever runs the search, is
never forgotten: a target that would have to replace it is refused.
"""

from __future__ import annotations

import importlib
import operator
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from autoprune.errors import DataError
from autoprune.toolkit.files import near

_MARK = "__autoprune_folder__"


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put a spec's folder first on the import path, and forget the modules of other specs' folders."""
    folder = folder.resolve()
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get(_MARK, folder) != folder:
            del sys.modules[name]
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file written a moment ago counts too
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have changed the path as well
            sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            if _stands_in(sys.modules[name], name, folder):
                vars(sys.modules[name])[_MARK] = folder


def look_up(target: str, folder: Path) -> Callable[..., Any]:
    """The callable behind ``module:callable``; to be used inside `importable`.

    Raises:
        DataError: The module or the callable cannot be found, or the module fails while it is imported.
    """
    found = look_up_any(target, folder)
    if not callable(found):
        raise DataError(f"target {target!r} is {type(found).__name__}, not a function or class that makes the model")
    return found  # type: ignore[no-any-return]


def look_up_any(target: str, folder: Path) -> Any:
    """Whatever stands at ``module:name``; to be used inside `importable`.

    Raises:
        DataError: The module or the name cannot be found, or the module fails while it is imported.
    """
    module_name, _, attribute = target.partition(":")
    module = _import(module_name, folder.resolve(), target)
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise DataError(f"target {target!r}: {_file(module)} has no {attribute!r}{near(attribute, public)}") from None


def told(error: BaseException, folder: Path) -> str:
    """What the user's own code raised, and at which of its lines."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder.resolve())]
    return f"{type(error).__name__}: {error}" + (f" ({own[-1].filename}:{own[-1].lineno})" if own else "")


def _import(name: str, folder: Path, target: str) -> ModuleType:
    top = name.partition(".")[0]
    offered = PathFinder.find_spec(top, [str(folder)])
    loaded = sys.modules.get(top)
    if offered is not None and offered.origin and loaded is not None and not _stands_in(loaded, top, folder):
        raise DataError(
            f"target {target!r}: {offered.origin} cannot be imported, because this process has imported "
            f"{_file(loaded)} as {top!r} already; rename one of them"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not f"{name}.".startswith(f"{missing}."):
            raise DataError(f"target {target!r}: importing {name} failed: {told(error, folder)}") from error
        parent, _, last = missing.rpartition(".")
        places = [str(folder)] if not parent else list(getattr(sys.modules.get(parent), "__path__", []))
        names = [module.name for module in pkgutil.iter_modules(places)]
        where = f"in {folder} or among the installed ones" if not parent else f"in {parent}"
        raise DataError(f"target {target!r}: no module {last!r} {where}{near(last, names)}") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise DataError(f"target {target!r}: importing {name} failed: {told(error, folder)}") from error


def _stands_in(module: ModuleType, name: str, folder: Path) -> bool:
    """Whether the module was loaded from where its name would stand below the folder."""
    base = folder.joinpath(*name.split("."))
    file = getattr(module, "__file__", None)
    if file is None:
        return any(Path(entry).resolve() == base for entry in getattr(module, "__path__", ()))
    path = Path(file).resolve()
    return path.parent == base or (path.parent == base.parent and path.name.partition(".")[0] == base.name)


def _file(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)
