"""Where a study keeps its models, and which of them."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path


def model_folder(study: Path, number: int | str) -> Path:
    """Where a study keeps the model of a trial."""
    return study / "models" / str(number)


def refined_folder(study: Path, number: int) -> Path:
    """Where the model of a trial is that was made again, until it takes the other's place."""
    return study / "models" / f".{number}.refined"


def put_in_place(study: Path, number: int) -> None:
    """Have the model that was made again take the other's place; nothing where it has done so."""
    refined, folder = refined_folder(study, number), model_folder(study, number)
    if refined.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        refined.rename(folder)


def tidy(study: Path, *, kept: Collection[int], made_again: Collection[int]) -> None:
    """Leave the models that are kept, each as what it is, and nothing else: a session may have been killed anywhere.

    Args:
        study: Its folder.
        kept: Numbers of the trials.
        made_again: Numbers of those whose models were made again, as the study's journal has it.
    """
    models = study / "models"
    models.mkdir(exist_ok=True)
    for number in made_again:
        put_in_place(study, number)
    names = {str(number) for number in kept}
    for entry in models.iterdir():
        if entry.name not in names:
            shutil.rmtree(entry)
