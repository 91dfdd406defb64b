"""Single-file plugins beside a saved model, without which nobody could open it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from autoprune.errors import PluginError, StructureError
from autoprune.host.files import PluginFile, read_file
from autoprune.host.plugins import PluginHost
from autoprune.structure.saved.recipe import PLUGINS_FOLDER, Recipe

HOW_TO_TRUST = 'trust=True (in a spec trust: true, in mlflow.pyfunc.load_model model_config={"trust": True})'


def keep(files: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Copy plugin files into a model's folder, each content once.

    Returns:
        Their names there, for the recipe.
    """
    kept: dict[str, PluginFile] = {}
    for file in map(read_file, files):
        if file not in kept.values():
            stem, number = file.path.stem, 1
            while (name := f"{stem}{'' if number == 1 else f'_{number}'}.py") in kept:
                number += 1
            kept[name] = file
    into = folder / PLUGINS_FOLDER
    shutil.rmtree(into, ignore_errors=True)
    for name, file in kept.items():
        into.mkdir(exist_ok=True)
        (into / name).write_bytes(file.source)
    return tuple(kept)


def kept_in(folder: Path, recipe: Recipe) -> list[Path]:
    """Where the plugin files of a saved model are."""
    return [folder / PLUGINS_FOLDER / name for name in recipe.plugins]


def host_for(folder: Path, recipe: Recipe, *, trust: bool) -> PluginHost:
    """The installed plugins, and the files of a saved model.

    Args:
        folder: The model's.
        recipe: The model's.
        trust: Whether the files may run. What this process has run already, by a spec's wish, need not be run again.

    Raises:
        StructureError: They would have to run and may not, or they are missing or broken.
    """
    host = PluginHost()
    try:
        files = [read_file(path) for path in kept_in(folder, recipe)]
        if not trust and (new := [file.path.name for file in files if file.module not in sys.modules]):
            raise StructureError(
                f"{folder} is opened by code that it brings along ({PLUGINS_FOLDER}/{new[0]}); "
                f"if you trust it, let it run with {HOW_TO_TRUST}"
            )
        for file in files:
            host.load_file(file.path)
    except PluginError as error:
        raise StructureError(f"{folder}: {error}") from error
    return host
