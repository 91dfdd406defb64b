"""Servers that are started and ended; ``ui`` itself is tried in tests/integration."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from autoprune.errors import TrackingError
from autoprune.tracking.serving import Interrupted, Program, Running, dashboard, mlflow_server

ANSWERS = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def program(code, *arguments, **environment):
    where = port()
    return Program("toy", [sys.executable, "-c", code, str(where), *arguments], environment, where, "/")


def gone(process):
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_server_that_ends_by_itself_is_told_with_its_last_line():
    code = "import os, sys; print('so far so good'); sys.exit('no such host ' + os.environ['PLACE'] + '\\n\\n')"
    with pytest.raises(TrackingError) as error, Running(Interrupted()) as servers:
        servers.start(program(code, PLACE="db://me:secret@host/x"))
    assert str(error.value) == "toy has ended: no such host db://me:***@host/x"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "stubborn"])
def test_what_was_started_ends_with_the_context(how, monkeypatch):
    monkeypatch.setattr("autoprune.tracking.serving._GRACE_S", 1)
    with Running(Interrupted()) as servers:
        for _ in range(2):
            servers.start(program(ANSWERS, how))
        processes = [process for _, process, _ in servers._started]
        assert not any(map(gone, processes))
    assert all(map(gone, processes))


@pytest.mark.slow
def test_nobody_waits_for_a_server_once_interrupted():
    interrupted = Interrupted()
    interrupted._asked = True
    started = time.monotonic()
    with Running(interrupted) as servers:
        servers.start(program("import time; time.sleep(60)"))
        servers.wait()
    assert time.monotonic() - started < 30


def test_passwords_are_in_no_command_line():
    told = mlflow_server("postgresql://me:secret@host/x", first_port=5000)
    assert "secret" not in " ".join(told.command)
    assert told.environment["MLFLOW_BACKEND_STORE_URI"].count("secret") == 1


def test_a_port_that_is_taken_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        assert mlflow_server("sqlite:////x.db", first_port=first).port != first
    with pytest.raises(TrackingError, match="no port is free from 65536 on; name another --port"):
        mlflow_server("sqlite:////x.db", first_port=65536)


def test_the_dashboard_is_there_if_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert dashboard("journal.log", first_port=8080) is None
    monkeypatch.delitem(sys.modules, "optuna_dashboard")
    (tmp_path / "optuna_dashboard.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = dashboard("redis://me:secret@host", first_port=8080)
    assert "secret" not in " ".join(found.command)
