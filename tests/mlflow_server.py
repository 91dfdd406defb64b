"""A real ``mlflow server``, for tests, and a door to it with a lock."""

from __future__ import annotations

import base64
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Server:
    """A real ``mlflow server`` that can be killed and started again."""

    def __init__(
        self, folder: Path, database: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._options = options
        self._environment = environment or {}
        self._database = shutil.copy(database, folder / "server.db")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self._database}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts"), *self._options]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self._environment},
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.2)
        raise RuntimeError((self._folder / "server.log").read_text()[-3000:])

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def guarded(uri: str, user: str, password: str) -> Iterator[str]:
    """An address that leads to a server for those alone who name themselves by basic authentication."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Guard(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != expected:
                self.answer(401, {}, b"You are not authenticated.")
                return
            headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
            asked = urllib.request.Request(uri + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    self.answer(answer.status, answer.headers, answer.read())
            except urllib.error.HTTPError as error:
                self.answer(error.code, error.headers, error.read())

        def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() == "content-type":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
