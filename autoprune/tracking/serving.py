"""Web servers of this machine that show studies, MLflow's and optuna-dashboard, for ``autoprune ui``."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO

from autoprune.errors import TrackingError
from autoprune.spec.secrets import masked
from autoprune.tracking._uri import artifact_location

_HOST = "127.0.0.1"
_PORTS = 100
"""How many are tried."""
_PATIENCE_S, _GRACE_S, _PAUSE_S = 120, 5, 0.1
_DASHBOARD = "import os; from optuna_dashboard import run_server; run_server(os.environ['AUTOPRUNE_UI'], {!r}, {})"
"""The storage is no argument, which everyone on the machine could read."""


@dataclass(frozen=True)
class Program:
    """A server to be started."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """Of it alone, besides this process's."""
    port: int
    ready: str
    """Path that it answers once it is up."""

    @property
    def url(self) -> str:
        """Its address, which this machine alone can reach."""
        return f"http://{_HOST}:{self.port}"


def mlflow_server(uri: str, *, first_port: int) -> Program:
    """MLflow's, on a database."""
    port = _free_port(first_port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1"]
    if location := artifact_location(uri):
        command += ["--artifacts-destination", location]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it would take three times as long to start
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return Program("MLflow", command, environment, port, "/health")


def dashboard(storage: str, *, first_port: int) -> Program | None:
    """optuna-dashboard on a study's storage, the file of a journal or a URL; None if it is not installed."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        return None
    port = _free_port(first_port)
    command = [sys.executable, "-c", _DASHBOARD.format(_HOST, port)]
    return Program("optuna-dashboard", command, {"AUTOPRUNE_UI": storage}, port, "/")


class Interrupted:
    """Whether this process was asked to end, by Ctrl-C, by SIGTERM or by a terminal that was closed."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Note those signals, in the main thread, and obey none at once: what was started is ended in good order."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, _: int, __: FrameType | None) -> None:
        self._asked = True


class Running:
    """Servers that run, each in a process group of its own, and end with this object's context."""

    def __init__(self, interrupted: Interrupted) -> None:
        self._interrupted = interrupted
        self._started: list[tuple[Program, subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        """End them: politely, and after some seconds in any case."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _, process, _ in self._started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            end = time.monotonic() + _GRACE_S
            while time.monotonic() < end and any(_alive(process) for _, process, _ in self._started):
                time.sleep(_PAUSE_S)
        for _, process, told in self._started:
            process.wait()
            told.close()

    def start(self, program: Program) -> None:
        """Start one, and come back when it answers, or when this process was asked to end.

        Raises:
            TrackingError: It ended instead, or does not answer.
        """
        told = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        process = subprocess.Popen(  # noqa: S603  this module's commands alone
            program.command,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        self._started.append((program, process, told))
        end = time.monotonic() + _PATIENCE_S
        while not self._interrupted and not _answers(program.url + program.ready):
            self._check()
            if time.monotonic() > end:
                raise TrackingError(f"{program.name} does not answer at {program.url}")
            time.sleep(_PAUSE_S)

    def wait(self) -> None:
        """Come back when this process was asked to end.

        Raises:
            TrackingError: A server ended by itself.
        """
        while not self._interrupted:
            self._check()
            time.sleep(_PAUSE_S)

    def _check(self) -> None:
        for program, process, told in self._started:
            if process.poll() is not None:
                told.seek(0)
                lines = told.read().decode(errors="replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
                uris = program.environment.values()
                raise TrackingError(f"{program.name} has ended: {masked(last, of=uris):.300}")


def _alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether anything of its group is."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  of this machine
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _free_port(first: int) -> int:
    for port in range(first, min(first + _PORTS, 1 << 16)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                trial.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise TrackingError(f"no port is free from {first} on; name another --port")
