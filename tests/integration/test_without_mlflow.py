"""Where MLflow is not installed: an environment that has all but it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .conftest import Ended, Workspace

MISSING = "MLflow is not installed: pip install 'autoprune[mlflow]'"
LOADED = """
import sys, autoprune
from autoprune.cli.run import run
code = run(sys.argv[1:])
print(sorted({name.partition(".")[0] for name in sys.modules if name.startswith("mlflow")}), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with links to all that this one has installed, but MLflow."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("mlflow"):
            (site / entry.name).symlink_to(entry)
    return home / "bin" / "python"


def called(python: Path, workspace: Workspace, *arguments: object, code: int = 0) -> Ended:
    done = subprocess.run(
        [python, "-c", LOADED, *map(str, arguments)],
        cwd=workspace.folder, env=workspace.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    *told, loaded = done.stderr.splitlines()
    assert loaded == "[]", "nothing tried to import it"
    return Ended(done.returncode, done.stdout, "".join(f"{line}\n" for line in told))


@pytest.mark.long
@pytest.mark.slow
def test_a_search_says_so_once_and_goes_on(python: Path, workspace: Workspace) -> None:
    searched = called(python, workspace, "search", "spec.yaml", "--set", "search.trials=4", "--json")
    assert searched.document["trials"]["complete"] >= 3
    assert (searched.document["run_id"], searched.document["url"]) == (None, None)
    lines = searched.err.splitlines()
    (told,) = (place for place, line in enumerate(lines) if "MLflow" in line)
    assert f"nothing is tracked. {MISSING}; afterwards, autoprune sync " in lines[told]
    assert told < next(place for place, line in enumerate(lines) if line.startswith("trial 0"))
    study = workspace.folder / "runs/digits-1"
    assert not (study / "mlflow.json").exists()
    assert not (workspace.folder / "mlflow.db").exists()
    assert called(python, workspace, "sync", study, code=1).err == f"autoprune: {MISSING}\n"
    assert "sent: 4 of 4 trials" in workspace.call("sync", study).out, "once it is installed"


@pytest.mark.slow
def test_a_spec_that_names_a_store_is_refused_at_its_line(python: Path, workspace: Workspace) -> None:
    with workspace.spec.open("a") as spec:
        spec.write("tracking: {uri: 'http://127.0.0.1:9'}\n")
    line = len(workspace.spec.read_text().splitlines())
    refused = called(python, workspace, "search", "spec.yaml", code=2)
    assert refused.err == (
        f"spec.yaml:{line}:12: tracking.uri: {MISSING}; or leave it out, to search without a record in MLflow\n"
    )
    assert not (workspace.folder / "runs").exists()
    untracked = ("--set", "tracking.enabled=false", "--set", "search.trials=2")
    assert "MLflow" not in called(python, workspace, "search", "spec.yaml", *untracked).err


@pytest.mark.slow
def test_doctor_says_so_and_it_is_no_fault(python: Path, workspace: Workspace) -> None:
    checks = {c["name"]: c for c in called(python, workspace, "doctor", "--json").document["checks"]}
    assert checks["tracking"] == {"name": "tracking", "ok": True, "detail": f"nothing is tracked: {MISSING}"}
    assert "mlflow" not in checks["versions"]["detail"]
    assert "optuna 5" in checks["versions"]["detail"]
    opening = "import autoprune; autoprune.load_pruned('models:/digits/1')"
    done = subprocess.run([python, "-c", opening], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert f"StructureError: models:/digits/1: {MISSING}" in done.stderr
