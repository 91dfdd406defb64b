"""Mistakes of users: one line each, a code, no traceback."""

from __future__ import annotations

import pytest

from autoprune.cli import main, specs
from autoprune.errors import NoFeasibleTrialError, PluginError, StudyError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see autoprune --help"),
        (["search"], "Missing argument 'SPEC'; see autoprune search --help"),
        (["search", "spec.yaml", "--trails", "8"], "No such option: --trails"),
        (["plugins"], "Missing command; see autoprune plugins --help"),
        (["resume", "somewhere", "--trials", "0"], "Invalid value for '--trials'"),
        (["plugins", "show", "nothing"], "no component is called 'nothing'"),
        (["resume", "nowhere"], "there is no study or spec at nowhere"),
        (["resume", "."], "holds no study"),
        (["report", "."], "holds no study"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_wrong_call_gives_one_line_and_code_2(
    arguments: list[str], message: str, autoprune, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = autoprune(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("autoprune: ")
    assert message in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudyError("the folder is gone"), 2),
        (PluginError("toy breaks its contract"), 3),
        (NoFeasibleTrialError("none of 3 trials is feasible"), 4),
        (ZeroDivisionError("division by zero"), 1),
    ],
    ids=lambda v: type(v).__name__,
)
def test_each_kind_of_error_has_its_code(error: Exception, code: int, autoprune, monkeypatch) -> None:
    def fail(_plugins: object) -> str:
        raise error

    monkeypatch.setattr(specs, "_schema_text", fail)
    answer = autoprune("schema")
    assert (answer.code, answer.out) == (code, "")
    assert str(error) in answer.err
    assert "Traceback" not in answer.err
    answer = autoprune("schema", "--json")
    assert answer.code == code
    assert answer.document["error"]["type"] == type(error).__name__
    assert answer.document["error"]["exit_code"] == code
    assert str(error) in answer.document["error"]["message"]
    assert str(error) in answer.err, "people read stderr"


def test_ctrl_c_anywhere_is_code_130(autoprune, monkeypatch) -> None:
    def interrupt(_plugins: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(specs, "_schema_text", interrupt)
    answer = autoprune("schema")
    assert (answer.code, answer.out, answer.err) == (130, "", "autoprune: interrupted\n")
    assert autoprune("schema", "--json").document["error"]["exit_code"] == 130


def test_a_traceback_on_request(autoprune, monkeypatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_DEBUG", "1")
    answer = autoprune("plugins", "show", "nothing")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.endswith("\n")


def test_main_exits_with_the_code(capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["plugins", "show", "nothing"])
    assert exit_.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_usage_error_under_json_is_a_document_too(autoprune) -> None:
    error = autoprune("search", "--json").document["error"]
    assert error["message"] == "Missing argument 'SPEC'"
    assert error["mistakes"] == []


def test_mistakes_of_a_spec_are_listed_in_the_document(autoprune, tmp_path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: a b\nmodel: {use: none-such}\n")
    answer = autoprune("validate", spec, "--json")
    assert answer.code == 2
    mistakes = answer.document["error"]["mistakes"]
    assert {(m["line"], m["column"], tuple(m["path"])) for m in mistakes} >= {
        (1, 1, ("name",)),
        (2, 9, ("model", "use")),
    }
    assert all(m["file"] == str(spec) and m["message"] for m in mistakes)
    assert answer.err.count("\n") == len(mistakes)


SPEC = """\
name: own
model: {use: digits-cnn}
data: {use: digits}
scorer: {use: my-own, power: {choose: [1, 2]}}
evaluators: [{use: params}]
objectives: {params: minimize}
"""
OWN = """
from autoprune.plugin import Scorer

class Own(Scorer):
    name = "my-own"
    power: int = 1
    def score(self, group, ctx): ...
"""


def test_a_spec_is_checked_with_the_plugin_files_given(autoprune, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "own.py").write_text(OWN)
    check = ("validate", tmp_path / "spec.yaml", "--spec-only")
    assert autoprune(*check, "--plugin", tmp_path / "own.py").code == 0
    assert autoprune(*check, "--set", "plugins=[own.py]").code == 0, "beside the spec"
    answer = autoprune(*check)
    assert answer.code == 2
    assert "spec.yaml:4:10: scorer.use: no scorer is called 'my-own'" in answer.err


def test_a_plugin_file_of_a_spec_that_fails_is_told_at_its_place(autoprune, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text(f"{SPEC}plugins:\n- ./own.py\n")
    (tmp_path / "own.py").write_text(OWN.replace("def score(self, group, ctx)", "def score_(self)"))
    answer = autoprune("validate", tmp_path / "spec.yaml", "--spec-only")
    assert answer.code == 2
    place = f"{tmp_path / 'spec.yaml'}:8:3: plugins.0: {tmp_path / 'own.py'}:4: "
    assert answer.err == f"{place}Own does not implement score\n"
    answer = autoprune("search", tmp_path / "spec.yaml", "--plugin", tmp_path / "own.py")
    assert (answer.code, answer.err.count("\n")) == (3, 1)
    assert "own.py:4: Own does not implement score" in answer.err
