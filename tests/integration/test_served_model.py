"""A registered model of a front behind MLflow's scoring server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import autoprune
from autoprune.study import read_study

from .conftest import Workspace


@pytest.mark.long
@pytest.mark.slow
def test_it_predicts_what_the_saved_model_does(searched: Workspace) -> None:
    told = searched.call("sync", "runs/digits-1", "--register", "digits", "--json").document
    versions = told["registered"]["digits"].values()
    number = next(version["trial"] for version in versions if "most-accurate" in version["aliases"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/digits@most-accurate"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    log = searched.folder / "serving.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=searched.folder, stdout=stream, stderr=stream, start_new_session=True,
            env=searched.environment | {"MLFLOW_TRACKING_URI": told["tracking_uri"], "PATH": path},
        )  # fmt: skip
    try:
        end = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.5)
        inputs = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": inputs.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            predictions = np.float32(json.load(answer)["predictions"])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with torch.no_grad():
        expected = autoprune.load_pruned(read_study(searched.folder / "runs/digits-1").models[number])(
            torch.from_numpy(inputs)
        )
    np.testing.assert_allclose(predictions, expected.numpy(), rtol=1e-6, atol=1e-7)
