"""``doctor``: is this installation fit to search?"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autoprune.api.printed import table
from autoprune.cli.options import AsJson
from autoprune.cli.reply import Reply

_DISTRIBUTIONS = ("autoprune", "torch", "optuna", "mlflow", "pydantic", "pluggy", "typer", "numpy", "pandas")


@dataclass(frozen=True)
class _Check:
    name: str
    ok: bool
    detail: str


def doctor(_json: AsJson = False) -> Reply:
    """Check the installation.

    Versions, devices, plugins, the tracking store and the folders that are written to.
    """
    checks = [
        _Check("python", True, f"{platform.python_version()} on {platform.platform()}"),
        _Check("versions", True, ", ".join(filter(None, map(_version, _DISTRIBUTIONS)))),
        _checked("devices", _devices),
        *_plugins(),
        _checked("tracking", _tracking),
        _checked("runs folder", lambda: _writable(Path.cwd())),
        _checked("cache folder", _cache),
    ]
    rows = table("", "check", "found")
    for check in checks:
        rows.add_row("ok" if check.ok else "FAULT", check.name, check.detail)
    broken = {check.name.partition(" ")[0] for check in checks if not check.ok}
    exit_code = 0 if not broken else 3 if "plugin" in broken else 1
    return Reply({"ok": not broken, "checks": [asdict(check) for check in checks]}, (rows,), exit_code)


def _checked(name: str, look: Callable[[], str]) -> _Check:
    try:
        return _Check(name, True, look())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the installation is what is asked for
        return _Check(name, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _version(distribution: str) -> str:
    """Nothing of what may be missing; pip sees to the others."""
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return ""


def _devices() -> str:
    import torch

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return (
        f"{', '.join(cards) or 'no CUDA device'}; CPU with {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    )


def _plugins() -> Iterator[_Check]:
    from autoprune.host.plugins import PluginHost

    for plugin in PluginHost().plugins:
        brings = f"{len(plugin.components)} components" if plugin.components else "hooks"
        origin = f"{plugin.distribution} {plugin.version}"
        yield _Check(f"plugin {plugin.name}", plugin.error is None, f"{origin}: {plugin.error or brings}")


def _tracking() -> str:
    from autoprune.tracking.health import check_store

    return check_store()


def _cache() -> str:
    from autoprune.study.resolution import cache_folder

    return _writable(cache_folder())


def _writable(folder: Path) -> str:
    """Write into the folder, or into the one that it would be made in."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=there):
        return f"{folder} can be written to"
