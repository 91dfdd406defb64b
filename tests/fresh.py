"""New processes that start at once: forked from a server that has torch, and what it exports with, imported.

The server has seen nothing of the tests, so what runs in such a process is as alone as in one that was started by hand,
and does not pay for the imports again.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_IMPORTED = ["torch", "torch.export._trace", "torch._dynamo", "autoprune.study"]


def started(target: Callable[..., None], *args: object) -> BaseProcess:
    """Begin a function, of a module that can be imported, in a new process with today's environment and folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=_run, args=(dict(os.environ), Path.cwd(), target, args))
    process.start()
    return process


def returned(target: Callable[..., Any], *args: object) -> Any:
    """What a function returns in a new process, without tensors.

    Raises:
        AssertionError: With its traceback, if it raises.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours:
        process = started(_send, theirs, target, args)
        theirs.close()
        try:
            value, told = ours.recv()
        except EOFError:
            value, told = None, "it ended before it said anything"
        process.join()
    assert not told, told
    return value


def _run(environment: dict[str, str], folder: Path, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    target(*args)


def _send(channel: Connection, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with channel:
        try:
            channel.send((target(*args), ""))
        except BaseException:
            channel.send((None, traceback.format_exc()))
            raise
