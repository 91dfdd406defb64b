"""``init``, ``validate``, ``explain`` and ``schema`` with the built-in components."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from autoprune.cli.run import run
from autoprune.spec import read_document

_TABLE = Path(__file__).parents[1] / "autoprune" / "spec" / "broken_specs.py"
_SPEC = importlib.util.spec_from_file_location("broken_specs", _TABLE)
assert _SPEC is not None
assert _SPEC.loader is not None
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)


def test_there_are_forty_broken_specs_at_least() -> None:
    assert len(table.BROKEN) >= 40


@pytest.mark.parametrize("broken", table.BROKEN, ids=[broken.id for broken in table.BROKEN])
def test_a_broken_spec_gives_a_line_per_mistake_where_it_stands(broken, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text(broken.text)
    assert run(["validate", "broken.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == len(broken.lines)
    for line, (row, column, message) in zip(lines, broken.lines, strict=True):
        assert line.startswith(f"broken.yaml:{row}:{column}: ")
        assert message in line


@pytest.mark.slow
def test_no_broken_spec_needs_torch(tmp_path) -> None:
    """All of them in one process, by every command that takes a spec."""
    for index, broken in enumerate(table.BROKEN):
        (tmp_path / f"{index}.yaml").write_text(broken.text)
    code = f"""
import sys
from autoprune.cli.run import run
for index in range({len(table.BROKEN)}):
    assert run(["validate", f"{{index}}.yaml"]) == 2
for command in ("explain", "search", "resume"):
    assert run([command, "1.yaml"]) == 2
heavy = {{"torch", "mlflow", "optuna", "pandas", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_init_writes_a_spec_that_is_right(workspace) -> None:
    workspace.spec.unlink()
    written = workspace.call("init", "--json").document
    assert written == {"spec": "spec.yaml", "schema": "autoprune.schema.json"}
    text = workspace.spec.read_text()
    assert text.startswith("# yaml-language-server: $schema=./autoprune.schema.json\n")
    schema = json.loads((workspace.folder / "autoprune.schema.json").read_text())
    document, mistakes = read_document(workspace.spec)
    assert not mistakes
    jsonschema.Draft202012Validator(schema).validate(document.data)
    answer = workspace.call("validate", "spec.yaml", "--json").document
    assert answer["valid"]
    assert answer["searched_groups"] > 2

    refused = workspace.call("init", code=2)
    assert "--force" in refused.err
    workspace.spec.write_text("mine")
    workspace.call("init", code=2)
    assert workspace.spec.read_text() == "mine"
    workspace.call("init", "--force")
    assert workspace.spec.read_text() == text
    workspace.call("init", "sub/other.yaml")
    assert (workspace.folder / "sub" / "autoprune.schema.json").is_file()


@pytest.mark.slow
def test_validate_checks_against_the_model_unless_told_not_to(workspace) -> None:
    workspace.spec.write_text(workspace.spec.read_text() + "search_space: {groups: {nothing.like.it: keep}}\n")
    assert "is valid" in workspace.call("validate", "spec.yaml", "--spec-only").out
    refused = workspace.call("validate", "spec.yaml", code=2)
    assert refused.err.startswith("spec.yaml:11:25: search_space.groups.")
    assert refused.err.count("\n") == 1


def test_set_overrides_the_spec_and_its_mistakes_are_told(workspace) -> None:
    assert "3 trials" in workspace.call("validate", "spec.yaml", "--spec-only", "--set", "search.trials=3").out
    refused = workspace.call("validate", "spec.yaml", "--spec-only", "--set", "search.trials=few", code=2)
    assert refused.err.startswith("--set search.trials=few:")


@pytest.mark.slow
def test_explain_tells_groups_reasons_and_cost(workspace) -> None:
    space = "search_space: {groups: {hidden: keep, conv1: {high: 0.5}}}\n"
    workspace.spec.write_text(workspace.spec.read_text() + space)
    document = workspace.call("explain", "spec.yaml", "--json").document
    groups = {group["name"]: group for group in document["groups"]}
    assert groups["conv1"]["units"] == 16
    assert groups["conv1"]["high"] == 0.5
    assert groups["conv1"]["cut_units"] == [0, 8]
    assert "block1.conv2" in groups["conv1"]["layers"], "the residual add couples them"
    assert groups["hidden"]["cut_units"] == [0, 0]
    # A neuron of `hidden` is its row of the weight, its bias and its column in the last layer.
    assert groups["hidden"]["units"] == 64
    assert document["dense"]["params"] > groups["hidden"]["params"] > 64 * (1 + 10)
    assert groups["hidden"]["params"] % 64 == 0
    assert [u["layer"] for u in document["uncut"]] == ["linear"]
    needs = {metric["name"]: metric["needs"] for metric in document["metrics"]}
    assert needs["accuracy"] == ["data", "labels"]
    assert needs["robust_accuracy"] == ["data", "labels", "gradients"]
    assert document["estimate"]["search_s"] > 0
    assert document["estimate"]["failures"] == []
    assert {"score", "cut", "recover", "accuracy", "fgsm"} <= document["estimate"]["pruned_s"].keys()
    assert "score" not in document["estimate"]["dense_s"]
    per_1000 = document["estimate"]["dense_s_per_1000"]
    assert per_1000.keys() == {"accuracy", "fgsm"}
    assert per_1000["fgsm"] == pytest.approx(document["estimate"]["dense_s"]["fgsm"] * 1000 / 64)
    assert not (workspace.folder / "runs").exists(), "explaining leaves nothing behind"

    text = workspace.call("explain", "spec.yaml", "--no-timing").out
    assert "it is an output of the model" in text
    assert "kept" in text
    assert "trials take about" not in text


def test_schema_is_the_same_on_stdout_and_in_a_file(workspace) -> None:
    document = workspace.call("schema").document
    assert "taylor" in json.dumps(document)
    workspace.call("schema", "--output", "here.json")
    assert json.loads((workspace.folder / "here.json").read_text()) == document


@pytest.mark.slow
def test_plugins_show_every_component(capsys) -> None:
    assert run(["plugins", "list", "--json"]) == 0
    plugins = json.loads(capsys.readouterr().out)["plugins"]
    names = {c["name"] for p in plugins if p["distribution"] == "autoprune" for c in p["components"]}
    assert {"l1", "taylor", "one-shot", "fine-tune", "accuracy", "pgd", "factory", "parquet", "nsga2"} <= names
    for name in sorted(names):
        assert run(["plugins", "show", name, "--json"]) == 0
        for component in json.loads(capsys.readouterr().out)["components"]:
            assert component["description"]
            assert all(option["description"] for option in component["options"]), name
