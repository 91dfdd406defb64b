"""What can be asked before anything heavy is loaded."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from autoprune.cli.app import app

COMMANDS = [
    "init",
    "validate",
    "explain",
    "search",
    "resume",
    "report",
    "select",
    "sync",
    "ui",
    "schema",
    "doctor",
    "plugins",
]
ALL = [*([c] for c in COMMANDS), ["plugins", "list"], ["plugins", "show"]]
HEAVY = {"torch", "mlflow", "optuna", "pandas", "sklearn", "numpy", "rich", "ruamel", "matplotlib"}


def imported_by(*arguments: str) -> set[str]:
    """Top-level packages that a fresh process has imported when the command ends."""
    command = [sys.executable, "-X", "importtime", "-m", "autoprune.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    imported = imported_by(*arguments)
    assert "typer" in imported, "or the check sees nothing"
    assert not imported & HEAVY


def test_help_names_every_command(autoprune) -> None:
    answer = autoprune("--help")
    assert (answer.code, answer.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*[^.]\.$", answer.out, re.MULTILINE), f"{command}, in one sentence"
    assert sorted(typer.main.get_command(app).commands) == sorted(COMMANDS)


def test_no_argument_is_a_call_for_help(autoprune) -> None:
    assert autoprune() == autoprune("--help")


def commands(group, *names: str):
    """Every command with its names."""
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


def test_every_argument_and_option_is_explained() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert {names for names in found if names} == {tuple(names) for names in ALL}
    for names, command in found.items():
        for parameter in command.params:
            assert parameter.help, f"{' '.join(names)}: {parameter.name}"


@pytest.mark.parametrize("command", [c for c in ALL if c != ["plugins"]], ids=" ".join)
def test_every_command_takes_json(command: list[str], autoprune) -> None:
    assert "--json" in autoprune(*command, "--help").out


def test_version(autoprune) -> None:
    assert autoprune("--version").out == f"autoprune {importlib.metadata.version('autoprune')}\n"


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).with_name("autoprune")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("autoprune ")
