"""From arguments to an exit code: calls the command, turns errors into replies, prints."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from autoprune.cli.app import app
from autoprune.cli.reply import DOCUMENTS, INTERRUPTED, Reply, documents_apart, show
from autoprune.errors import AutopruneError, SpecError


def run(arguments: Sequence[str]) -> int:
    """Run a command; the exit code."""
    as_json = "--json" in arguments
    with documents_apart(wanted=any(option in arguments for option in DOCUMENTS)) as stdout:
        reply = _answer(list(arguments))
        if isinstance(reply, int):
            return reply
        try:
            show(reply, stdout, as_json=as_json)
        except BrokenPipeError:  # `autoprune plugins list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return reply.exit_code


def _answer(arguments: list[str]) -> Reply | int:
    try:
        answer = typer.main.get_command(app).main(arguments or ["--help"], prog_name="autoprune", standalone_mode=False)
    except AutopruneError as error:
        return _refusal(error, error.exit_code, mistakes=_mistakes(error))
    except typer.TyperException as error:
        return _refusal(error, error.exit_code, message=error.format_message().rstrip("."), hint=_help(error))
    except Exception as error:  # noqa: BLE001 - whatever is left is a fault of ours or of a plugin
        return _refusal(error, 1, hint="; AUTOPRUNE_DEBUG=1 shows where")
    if isinstance(answer, Reply):
        return answer
    if answer == INTERRUPTED:
        return _refusal(KeyboardInterrupt("interrupted"), INTERRUPTED)
    return answer if isinstance(answer, int) else 0


def _refusal(
    error: BaseException,
    exit_code: int,
    *,
    message: str | None = None,
    hint: str = "",
    mistakes: Sequence[dict[str, Any]] = (),
) -> Reply:
    if os.environ.get("AUTOPRUNE_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    text = message or str(error) or type(error).__name__
    kind = type(error).__name__
    if not isinstance(error, AutopruneError | typer.TyperException | KeyboardInterrupt):
        text = f"{kind}: {text}"
    document = {"type": kind, "message": text, "exit_code": exit_code, "mistakes": list(mistakes)}
    lines = text.splitlines() if mistakes else [f"autoprune: {text}{hint}"]
    return Reply({"error": document}, exit_code=exit_code, errors=tuple(lines))


def _help(error: typer.TyperException) -> str:
    context: typer.Context | None = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context else ""


def _mistakes(error: AutopruneError) -> list[dict[str, Any]]:
    found = error.mistakes if isinstance(error, SpecError) else ()
    return [
        {"file": m.file, "line": m.line, "column": m.column, "path": list(m.path), "message": m.message} for m in found
    ]
