"""What a command answers, and how it is printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

INTERRUPTED = 130
"""Exit code of a search that Ctrl-C or its time limit ended; `resume` goes on."""
DOCUMENTS = ("--json", "--html", "--csv")
"""Options with which stdout is one document."""
_WIDE = 200
"""Columns of a table where nobody's screen limits it."""


@dataclass(frozen=True)
class Reply:
    """A command's answer, for programs and for people."""

    document: Mapping[str, Any]
    """What ``--json`` prints."""
    text: tuple[RenderableType, ...] = ()
    """What people get: lines and tables."""
    exit_code: int = 0
    errors: tuple[str, ...] = field(default=())
    """Lines for stderr, with ``--json`` too."""


def show(reply: Reply, stdout: IO[str], *, as_json: bool) -> None:
    """Print a reply."""
    for line in reply.errors:
        sys.stderr.write(f"{line}\n")
    if as_json:
        stdout.write(json.dumps(reply.document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    elif all(isinstance(part, str) for part in reply.text):
        stdout.writelines(f"{part}\n" for part in reply.text)
    else:
        _print(reply, console(stdout))
    stdout.flush()


def console(stream: IO[str]) -> Console:
    """A console that cuts no table to 80 columns where the output goes to a file."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else _WIDE, markup=False, highlight=False, emoji=False)


@contextlib.contextmanager
def documents_apart(*, wanted: bool) -> Iterator[IO[str]]:
    """The stream for the reply. Where that is a document, whatever else prints to stdout meanwhile goes to stderr.

    That holds for models and plugins that print, for compiled code and for worker processes.
    """
    if not wanted:
        yield sys.stdout
        return
    found = sys.stdout
    with contextlib.ExitStack() as stack:
        if found is not None and found is sys.__stdout__:
            sys.stdout.flush()
            found = stack.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8"))
            os.dup2(2, 1)
            stack.callback(os.dup2, found.fileno(), 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield found


def _print(reply: Reply, to: Console) -> None:
    for part in reply.text:
        to.print(part, soft_wrap=isinstance(part, str))
