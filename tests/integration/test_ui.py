"""``ui``: real servers that show a study, and end when they are told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from .conftest import Workspace

DASHBOARD = """
import http.server

def run_server(storage, host, port):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(storage.encode())
    http.server.ThreadingHTTPServer((host, port), Page).serve_forever()
"""
"""Stands in for optuna-dashboard."""


def descendants(pid: int) -> set[int]:
    """Processes that one has started, and those that they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def living(pids: set[int]) -> set[int]:
    """Those that have not ended."""
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            alive.add(pid)
    return alive


def begun(workspace: Workspace, *arguments: object) -> subprocess.Popen[str]:
    (workspace.folder / "site").mkdir(exist_ok=True)
    (workspace.folder / "site" / "optuna_dashboard.py").write_text(DASHBOARD)
    return subprocess.Popen(
        [sys.executable, "-m", "autoprune.cli", "ui", *map(str, arguments), "--no-browser"], cwd=workspace.folder,
        env=workspace.environment | {"PYTHONPATH": str(workspace.folder / "site")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_the_link_opens_the_studys_view_until_ctrl_c(searched: Workspace) -> None:
    study = searched.folder / "runs/digits-1"
    run = searched.call("sync", study, "--json").document["run_id"]
    process = begun(searched, study)
    assert process.stdout is not None
    url, dashboard = process.stdout.readline().strip(), process.stdout.readline().strip()
    base, page = url.split("/#/experiments/")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base)
    experiment = page.partition("/")[0]
    told = json.loads(fetched(f"{base}/ajax-api/2.0/mlflow/experiments/get?experiment_id={experiment}"))
    view = re.search(r"viewStateShareKey=([\w-]+)", page)[1]
    assert run in view
    assert f"mlflow.sharedViewState.{view}" in {tag["key"] for tag in told["experiment"]["tags"]}
    assert "<html" in fetched(base)
    assert fetched(dashboard.removeprefix("optuna-dashboard: ")) == str(study / "journal.log")
    started = descendants(process.pid)
    assert len(started) >= 2
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "Ctrl-C ends it\n")
    assert not living(started)
    assert not (searched.folder / "mlruns").exists()


@pytest.mark.long
@pytest.mark.slow
def test_sigterm_before_it_is_up_leaves_nothing_behind(searched: Workspace) -> None:
    searched.call("sync", "runs/digits-1")
    process = begun(searched)  # of the default store
    end = time.monotonic() + 60
    while not (started := descendants(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert started
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not living(started)


@pytest.mark.slow
def test_of_a_server_that_runs_the_link_is_told(searched: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    study = searched.folder / "runs/digits-1"
    noted = {"study": "s", "run_id": "abc", "experiment_id": "7", "tracking_uri": "http://me:secret@127.0.0.1:9/sub/"}
    (study / "mlflow.json").write_text(json.dumps(noted))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    answer = searched.call("ui", study)
    assert answer.out.startswith("http://127.0.0.1:9/sub/#/experiments/7/runs?viewStateShareKey=autoprune-abc&")
    assert opened == [answer.out.strip()]
    assert searched.call("ui", study, "--json", "--no-browser").document == {"url": answer.out.strip()}
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    searched.call("ui", study)
    assert len(opened) == 1 or sys.platform in ("darwin", "win32")


@pytest.mark.slow
def test_what_cannot_be_shown_is_one_line(searched: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for arguments, told in (
        (("runs/digits-1",), "MLflow has nothing of study digits-1 yet; autoprune sync "),
        ((), f"there is no database at {searched.folder}/mlflow.db; name a study, or set MLFLOW_TRACKING_URI"),
    ):
        answer = searched.call("ui", *arguments, "--no-browser", code=1)
        assert answer.err.startswith(f"autoprune: {told}")
        assert (answer.out, answer.err.count("\n")) == ("", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", os.fspath(searched.folder))
    assert "neither a database nor an HTTP server" in searched.call("ui", "--no-browser", code=1).err
