"""A Python for worker processes that has imported PyTorch and the host: it forks where another would load them.

    python -m tests.zygote <socket>

listens, and ends when its input does. `quick_python` writes the program that stands for ``sys.executable``: it hands
its arguments, environment, folder and streams over, ends as the forked process ends, and takes that along when it is
killed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

_IMPORTED = ("torch", "torch.export._trace", "torch._dynamo", "autoprune.study")
_PROGRAM = """\
#!{python} -IS
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
told = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(link, [len(told).to_bytes(4, "big")], [0, 1, 2])
link.sendall(told)
for stream in (0, 1, 2):
    os.close(stream)
code = int(link.recv(16) or b"1")
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def quick_python(folder: Path) -> Iterator[str]:
    """The path of a program that runs ``-m`` modules as Python does, but at once."""
    program, address = folder / "python", folder / "zygote"
    program.write_text(_PROGRAM.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    command = [sys.executable, "-m", "tests.zygote", str(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(program)
        server.stdin.close()


def _serve(address: str) -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sources: list[socket.socket | int] = [listener, 0]
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select(sources, [], [])
            if 0 in ready:
                return
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # whoever watched one that ended
                    pass
            link, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _watch(link)
            link.close()


def _watch(link: socket.socket) -> NoReturn:
    """Fork once more, and tell how that one ended; kill it when whoever asked is gone."""
    head, streams, _, _ = socket.recv_fds(link, 4, 3)
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += link.recv(65536)
    worker = os.fork()
    if worker == 0:
        link.close()
        arguments, environment, folder = json.loads(text)
        _run(arguments, environment, folder, streams)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(worker)
    sources: list[socket.socket | int] = [link, ended]
    ready, _, _ = select.select(sources, [], [])
    if ended not in ready:
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    with contextlib.suppress(OSError):
        link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> NoReturn:
    """Be ``python -m module …``."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    option, module, *_ = arguments
    assert option == "-m"
    path = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [folder, *path, *sys.path]
    sys.argv = arguments[1:]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except Exception:  # noqa: BLE001  as Python does
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
