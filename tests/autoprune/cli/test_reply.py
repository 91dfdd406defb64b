"""Where output goes."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from autoprune.api.printed import table
from autoprune.cli.reply import Reply, show

# A command that prints in every way that a model, a plugin or compiled code may.
NOISY = """
import os, subprocess, sys
from autoprune.cli import main, specs
def noisy(_plugins):
    print("from Python")
    sys.stdout.flush()
    os.write(1, b"from C\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"])
    return '{"the": "document"}'
specs._schema_text = noisy
main(sys.argv[1:])
"""


def noisy(*arguments: str) -> tuple[str, str]:
    command = [sys.executable, "-c", NOISY, "schema", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.slow
def test_json_is_alone_on_stdout_whatever_prints() -> None:
    out, err = noisy("--json")
    assert json.loads(out) == {"the": "document"}
    assert err.split("\n") == ["from Python", "from C", "from a child", ""]


@pytest.mark.slow
def test_without_json_prints_are_left_alone() -> None:
    out, err = noisy()
    assert out.split("\n") == ["from Python", "from C", "from a child", '{"the": "document"}', ""]
    assert err == ""


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from autoprune.cli import main; main(['schema'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_table_in_a_file_is_not_cut_to_80_columns() -> None:
    rows = table("name", "#number")
    rows.add_row("x" * 120, "1")
    stream = io.StringIO()
    show(Reply({}, ("[bold] stays", rows)), stream, as_json=False)
    assert "[bold] stays\n" in stream.getvalue()
    assert "x" * 120 in stream.getvalue()


def test_nan_is_refused_rather_than_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        show(Reply({"value": float("nan")}), io.StringIO(), as_json=True)
