"""The model of a trial once more: only those of the front are kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autoprune.errors import StudyError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import TrialResult
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.models import model_folder
from autoprune.study.once import ONCE_FOLDER
from autoprune.study.recorded import StoredStudy
from autoprune.study.resolution import resolve, to_nobody
from autoprune.study.search import warn_of_others
from autoprune.study.trial import Runner


def remake(
    study: Path, number: int, into: Path, *, host: PluginHost | None = None, tell: Callable[[str], None] = to_nobody
) -> TrialResult:
    """Cut and measure a trial again, and save its model in a new folder; the study stays as it is.

    It is made as the search made it, from the same seeds: without the larger repair that members of the front get.

    Args:
        study: The study's folder.
        number: Of a complete trial, one that breaks a constraint included.
        into: The folder, which is not there yet.
        host: Knows the components; the installed plugins if None.
        tell: Hears, in words, what is being done.

    Returns:
        What it was measured as this time.

    Raises:
        StudyError: It did not complete this time.
    """
    host, folder = host or PluginHost(), StudyFolder.open(study)
    spec = folder.spec(host)
    stored = StoredStudy(folder.name, spec=spec, journal=folder.path / JOURNAL_FILE, mode="read")
    try:
        proposal = stored.again(next(trial for trial in stored.results if trial.number == number))
    finally:
        stored.close()
    problem = resolve(spec, host, tell=tell)
    warn_of_others(problem, folder.read_info(spec).environment, folder)
    # Who asks for a trial wants its model, within the bounds or not.
    problem = replace(problem, spec=spec.model_copy(update={"constraints": {}}))
    tell(f"making the model of trial {number}")
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as place:
        if (folder.path / ONCE_FOLDER).is_dir():  # what all trials of the study share
            shutil.copytree(folder.path / ONCE_FOLDER, Path(place) / ONCE_FOLDER)
        made = Runner(problem, Path(place)).run(proposal)
        if made.state != "complete":
            raise StudyError(f"trial {number} could not be made again: {made.reason}")
        model_folder(Path(place), number).rename(into)
    return made
