"""The real command in real processes, with the built-in plugins and the digits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from autoprune.cli import main
from autoprune.cli.run import run
from tests.fresh import started

SPEC = """\
name: digits
model: {use: digits-cnn}
data: {use: digits}
scorer: [{use: l1}, {use: taylor, batches: 4}]
strategy: {use: one-shot, recover: {use: bn-recalibration, samples: 256}}
evaluators: [{use: macs}, {use: params}, {use: accuracy}, {use: fgsm, epsilon: 0.1, samples: 64}]
objectives: {accuracy: maximize, macs: minimize}
constraints: {accuracy: ">= 0.2"}
search: {trials: 8, ladder: 3, seed: 1, final: {samples: all}}
device: cpu
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout, which must be one JSON document."""
        return json.loads(self.out)


def command(arguments: list[str], out: Path, err: Path) -> None:
    """The command line as this process's program, which writes to files."""
    for number, path in enumerate((out, err), start=1):
        with path.open("w") as stream:
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    main(arguments)


@dataclass(frozen=True)
class Forked:
    """A command that runs."""

    process: BaseProcess
    out: Path
    err: Path

    def wait_until_it_says(self, text: str) -> None:
        """On stderr."""
        end = time.monotonic() + 60
        while text not in self.err.read_text():
            assert self.process.is_alive(), f"it ended before it said {text!r}:\n{self.err.read_text()}"
            assert time.monotonic() < end, f"it did not say {text!r}:\n{self.err.read_text()}"
            time.sleep(0.02)

    def end_by(self, number: int, *, after: float = 0) -> Ended:
        """Send it a signal, after some seconds."""
        time.sleep(after)
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(60)
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, self.out.read_text(), self.err.read_text())


@dataclass(frozen=True)
class Workspace:
    """A folder with a spec, and the command run in it."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    def fork(self, *arguments: object) -> Forked:
        """Begin a command in a real process that has torch already."""
        streams = self.folder / "out.txt", self.folder / "err.txt"
        for stream in streams:
            stream.write_text("")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            return Forked(started(command, [str(argument) for argument in arguments], *streams), *streams)

    def run(self, *arguments: object, code: int = 0) -> Ended:
        """Run a command that is to end with that code."""
        done = subprocess.run(
            [sys.executable, "-m", "autoprune.cli", *map(str, arguments)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def call(self, *arguments: object, code: int = 0) -> Ended:
        """The same as `run`, but in this process, which has torch already."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                ended = Ended(run([str(argument) for argument in arguments]), out.getvalue(), err.getvalue())
        assert ended.code == code, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
        assert "Traceback" not in ended.err
        return ended

    def trials_in_optuna(self, study: Path) -> dict[int, str]:
        """State per number of every trial in the journal."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(study / "journal.log")))
        (summary,) = optuna.get_all_study_summaries(storage)
        trials = optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False)
        assert [trial.number for trial in trials] == list(range(len(trials)))
        return {trial.number: trial.state.name for trial in trials}

    def trials_in_mlflow(self) -> dict[str, list[int]]:
        """Numbers of the trials' runs, by their parent's run id."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            runs = client.search_runs(experiments, max_results=1000)
        found: dict[str, list[int]] = {}
        for each in runs:
            assert each.info.status != "RUNNING", each.data.tags
            if parent := each.data.tags.get("mlflow.parentRunId"):
                found.setdefault(parent, []).append(int(each.data.tags["autoprune.trial"]))
        return {parent: sorted(numbers) for parent, numbers in found.items()}


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of every command."""
    ours = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    left_out = {"MLFLOW_TRACKING_URI", "FORCE_COLOR", "AUTOPRUNE_DEBUG"}
    return {name: value for name, value in os.environ.items() if name not in left_out} | ours


@pytest.fixture
def workspace(tmp_path: Path, environment: dict[str, str]) -> Workspace:
    made = Workspace(tmp_path, environment)
    made.spec.write_text(SPEC)
    return made


@pytest.fixture(scope="session")
def _searched(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("searched"), environment)
    workspace.spec.write_text(SPEC)
    workspace.call("search", "spec.yaml", "--set", "tracking.enabled=false", "--set", "search.trials=5")
    return workspace


@pytest.fixture
def searched(_searched: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with ``runs/digits-1``, five trials that nobody tracked."""
    shutil.copytree(_searched.folder, tmp_path / "searched")
    return Workspace(tmp_path / "searched", _searched.environment)
