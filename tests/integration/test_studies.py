"""``search``, ``resume`` and ``report``: whole studies, also interrupted and killed ones."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import time

import pytest
import torch

import autoprune
from autoprune.study import read_study

from .conftest import SPEC, Workspace
from .witnesses import PLUGINS

SLOW = (
    "--plugin", PLUGINS / "dawdling.py", "--set", "evaluators=[{use: macs}, {use: accuracy}, {use: dawdling}]",
)  # fmt: skip
"""Makes a trial take a second."""
UNTRACKED = ("--set", "tracking.enabled=false")


@pytest.mark.slow
def test_search_then_resume_then_report(workspace) -> None:
    searched = workspace.run("search", "spec.yaml", "--set", "search.trials=6", "--json")
    first = searched.document
    assert first["study"] == "digits-1"
    assert sum(first["trials"].values()) == 6
    assert first["objectives"] == {"accuracy": "maximize", "macs": "minimize"}
    assert first["hypervolume"] > 0
    assert not first["interrupted"]
    assert len(first["front"]) >= 3
    for point in first["front"]:
        assert point["metrics"].keys() == point["test"].keys() >= {"accuracy", "macs", "robust_accuracy"}
        network = autoprune.load_pruned(point["model"], trust=True)
        assert isinstance(network, torch.nn.Module)
        assert sum(p.numel() for p in network.parameters()) == point["metrics"]["params"]
    told = [line for line in searched.err.splitlines() if line.startswith("trial ")]
    assert len(told) == 6
    study = workspace.folder / "runs" / "digits-1"
    assert (study / "report.md").read_text().startswith("# digits-1")
    assert workspace.trials_in_mlflow() == {first["run_id"]: list(range(6))}

    more = workspace.call("resume", "spec.yaml", "--trials", 8, "--json").document
    assert more["folder"] == first["folder"]
    assert more["run_id"] == first["run_id"]
    assert sum(more["trials"].values()) == 8
    assert more["hypervolume"] >= first["hypervolume"]
    assert workspace.trials_in_mlflow() == {first["run_id"]: list(range(8))}
    assert len(workspace.trials_in_optuna(study)) == 8

    reported = workspace.call("report", study, "--json").document
    assert {key: reported[key] for key in ("front", "hypervolume", "trials")} == {
        key: more[key] for key in ("front", "hypervolume", "trials")
    }
    shown = workspace.call("report", "runs/digits-1").out
    assert "front of digits-1" in shown
    assert "report: runs/digits-1/report.md" in shown


@pytest.fixture(scope="module")
def twice(environment, tmp_path_factory) -> tuple[Workspace, list[dict]]:
    """A workspace with two searches by the same spec, and what they said."""
    workspace = Workspace(tmp_path_factory.mktemp("twice"), environment)
    workspace.spec.write_text(SPEC)
    quick = ("search", "spec.yaml", *UNTRACKED, "--set", "search.trials=5", "--json")
    return workspace, [workspace.call(*quick).document for _ in range(2)]


@pytest.mark.slow
def test_each_search_has_its_own_folder_and_output_names_one(twice) -> None:
    workspace, documents = twice
    assert [document["study"] for document in documents] == ["digits-1", "digits-2"]
    quick = ("search", "spec.yaml", *UNTRACKED, "--set", "search.trials=1", "--json")
    named = workspace.call(*quick, "--output", "my studies/one").document
    assert named["folder"] == str(workspace.folder / "my studies" / "one")
    again = workspace.call(*quick, "--output", "my studies/one", code=2)
    assert "holds a study" in again.err


@pytest.mark.slow
def test_a_study_does_not_go_on_with_other_objectives(twice) -> None:
    workspace, _ = twice
    changed = workspace.folder / "changed.yaml"
    changed.write_text(SPEC.replace("macs: minimize", "params: minimize"))
    refused = workspace.call("resume", "changed.yaml", code=2)
    assert "changed.yaml has other objectives than runs/digits-2 began with (accuracy: maximize, macs: minimize)" in (
        refused.err
    )
    changed.write_text(SPEC.replace(">= 0.2", ">= 0.9"))
    assert "other constraints than" in workspace.call("resume", "changed.yaml", code=2).err


@pytest.mark.slow
def test_what_else_has_changed_in_a_spec_is_told(environment, tmp_path, caplog) -> None:
    workspace = Workspace(tmp_path, environment)
    workspace.spec.write_text(SPEC)
    first = ("--set", "search.trials=2", "--set", "search.ladder=1", "--set", "objectives={macs: minimize}")
    workspace.call("search", "spec.yaml", *UNTRACKED, *first)
    workspace.call("resume", "spec.yaml")
    assert "began with" not in caplog.text, "what was laid over is no change"
    other = SPEC.replace("samples: 256", "samples: 128").replace("use: digits-cnn", "use: digits-cnn, epochs: 3")
    workspace.spec.write_text(other.replace("seed: 1", "seed: 1, patience: 9"))
    workspace.call("resume", "spec.yaml")
    (told,) = (record.getMessage() for record in caplog.records if "began with" in record.getMessage())
    assert told == (
        "spec.yaml has other model, strategy, search.patience than runs/digits-1 began with, which goes on as it began"
    )


@pytest.mark.slow
def test_a_model_is_chosen_and_copied(twice) -> None:
    workspace, (document, _) = twice
    asked = ("select", "runs/digits-1", "--where", "accuracy >= 30% of dense", "--min", "macs", "-o", "best")
    chosen = workspace.call(*asked, "--json").document
    written = json.loads((workspace.folder / "runs" / "digits-1" / "front.json").read_text(encoding="utf-8"))
    enough = 0.3 * written["dense"]["metrics"]["accuracy"]["value"]
    good = [point for point in document["front"] if point["metrics"]["accuracy"] >= enough]
    smallest = min(good, key=lambda point: point["metrics"]["macs"])
    assert (chosen["trial"], chosen["metrics"]["macs"]) == (smallest["trial"], smallest["metrics"]["macs"])
    network = autoprune.load_pruned(workspace.folder / "best")
    assert sum(p.numel() for p in network.parameters()) == chosen["metrics"]["params"]
    again = workspace.call(*asked, code=2)
    assert "best is there already" in again.err
    named = workspace.call("select", "runs/digits-1").out
    assert "autoprune.load_pruned('runs/digits-1/models/" in named
    none = workspace.call("select", "runs/digits-1", "--where", "macs <= 1", code=2)
    assert "no point has macs <= 1" in none.err


@pytest.mark.slow
def test_a_moved_study_is_reported_and_chosen_from_where_it_lies(twice) -> None:
    workspace, _ = twice
    made, moved = workspace.folder / "runs" / "digits-2", workspace.folder / "elsewhere"
    shutil.copytree(made, moved)
    (moved / "report.md").unlink()
    before = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    shown = workspace.call("report", "elsewhere").out
    assert "report: elsewhere/report.md" in shown
    assert "models: elsewhere/models/<trial>" in shown
    assert (moved / "report.md").exists()
    assert "load_pruned('elsewhere/models/" in workspace.call("select", "elsewhere").out
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == before


@pytest.mark.slow
def test_the_model_of_any_trial_is_made_again(twice) -> None:
    workspace, (document, _) = twice
    result = read_study(workspace.folder / "runs" / "digits-1")
    saved = {point["trial"] for point in document["front"]}
    trial = next(t for t in result.outcome.trials if t.state == "complete" and t.number not in saved)
    number = str(trial.number)
    assert "-o DIR makes it again" in workspace.call("select", "runs/digits-1", "--trial", number, code=2).err
    made = workspace.call("select", "runs/digits-1", "--trial", number, "-o", "again", "--json").document
    assert made["metrics"] == {name: measured.value for name, measured in trial.metrics.items()}
    network = autoprune.load_pruned(workspace.folder / "again")
    assert sum(p.numel() for p in network.parameters()) == trial.metrics["params"].value
    assert (
        "again is there already"
        in workspace.call("select", "runs/digits-1", "--trial", number, "-o", "again", code=2).err
    )
    member = str(max(saved))
    assert "model: copied" in workspace.call("select", "runs/digits-1", "--trial", member, "-o", "copied").out
    refused = workspace.call("select", "runs/digits-1", "--trial", member, "--min", "macs", code=2).err
    assert "--trial says which one" in refused
    assert "there is no trial 77 among 5" in workspace.call("select", "runs/digits-1", "--trial", "77", code=2).err


@pytest.mark.slow
def test_the_page_and_the_table_are_printed_for_scripts(twice) -> None:
    workspace, _ = twice
    workspace.call("report", "runs/digits-1")
    study = workspace.folder / "runs" / "digits-1"
    before = {file.name: file.stat().st_mtime_ns for file in study.iterdir()}
    assert workspace.call("report", "runs/digits-1", "--csv").out == (study / "front.csv").read_text()
    assert workspace.call("report", "runs/digits-1", "--html").out == (study / "report.html").read_text()
    told = workspace.call("report", "runs/digits-1", "--csv", "-o", "tables/front.csv").out
    assert told == "wrote tables/front.csv\n"
    assert (workspace.folder / "tables" / "front.csv").read_text() == (study / "front.csv").read_text()
    side_by_side = workspace.call("report", "runs/digits-1", "--compare", "runs/digits-2", "--csv").out
    assert [row.partition(",")[0] for row in side_by_side.splitlines()] == ["study", "digits-1", "digits-2"]
    assert {file.name: file.stat().st_mtime_ns for file in study.iterdir()} == before, "nothing is written"
    whole = workspace.call("report", "runs/digits-1", "-o", "copy").out
    assert "report: copy/report.md" in whole
    assert (workspace.folder / "copy" / "front.csv").read_text() == (study / "front.csv").read_text()
    for options, message in (
        (("--html", "--csv"), "--html and --csv are several answers"),
        (("--csv", "--json"), "--csv and --json are several answers"),
        (("--html", "--compare", "runs/digits-2"), "studies side by side are no page"),
        (("--compare", "runs/digits-2", "-o", "x"), "studies side by side are no report"),
    ):
        assert message in workspace.call("report", "runs/digits-1", *options, code=2).err


@pytest.mark.slow
def test_stored_trials_are_ranked_by_other_objectives(twice) -> None:
    workspace, _ = twice
    study = workspace.folder / "runs" / "digits-1"
    before = {file.name: file.stat().st_mtime_ns for file in study.iterdir()}
    asked = ("report", "runs/digits-1", "--objective", "params: minimize", "--objective", "robust_accuracy: maximize")
    ranked = workspace.call(*asked, "--json").document
    assert ranked["objectives"] == {"params": "minimize", "robust_accuracy": "maximize"}
    trials = [t for t in read_study(study).outcome.trials if t.feasible]
    pairs = {t.number: (t.metrics["params"].value, -t.metrics["robust_accuracy"].value) for t in trials}
    assert {point["trial"] for point in ranked["front"]} == {
        number
        for number, (params, robust) in pairs.items()
        if not any(p <= params and r <= robust and (p, r) != (params, robust) for p, r in pairs.values())
    }
    shown = workspace.call(*asked).out
    assert "front of digits-1 by params, robust_accuracy" in shown
    assert {file.name: file.stat().st_mtime_ns for file in study.iterdir()} == before, "nothing is written"
    assert "report: other/report.md" in workspace.call(*asked, "-o", "other").out
    assert "by params, robust_accuracy" in (workspace.folder / "other" / "report.md").read_text().splitlines()[0]
    refused = workspace.call("report", "runs/digits-1", "--objective", "parms: minimize", code=2).err
    assert "no trial has a metric 'parms'; did you mean 'params'?" in refused


@pytest.mark.slow
def test_the_same_seed_finds_the_same_front(twice) -> None:
    one, other = ([{**point, "model": None} for point in document["front"]] for document in twice[1])
    assert one == other


@pytest.mark.slow
def test_ctrl_c_ends_in_good_order_and_says_how_to_go_on(workspace) -> None:
    process = workspace.fork("search", "spec.yaml", *UNTRACKED, *SLOW, "--set", "search.trials=50", "--json")
    process.wait_until_it_says("trial 1 ")
    ended = process.end_by(signal.SIGINT)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert ended.document["interrupted"]
    done = sum(ended.document["trials"].values())
    assert 2 <= done < 50
    hint = ended.err.splitlines()[-1]
    command = shlex.split(hint.partition("go on with: ")[2])
    assert command[:2] == ["autoprune", "resume"]
    assert workspace.call("report", command[2], "--json").document["interrupted"]
    resumed = workspace.call(*command[1:], "--trials", done + 1, "--json").document
    assert sum(resumed["trials"].values()) == done + 1


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_trial_loses_and_repeats_nothing(workspace, empty_database) -> None:
    shutil.copy(empty_database, workspace.folder / "mlflow.db")
    study = workspace.folder / "runs" / "digits-1"
    process = workspace.fork("search", "spec.yaml", *SLOW, "--set", "search.trials=5")
    process.wait_until_it_says("trial 2 ")
    while "RUNNING" not in workspace.trials_in_optuna(study).values():  # the next one begins at once
        time.sleep(0.05)
    assert process.end_by(signal.SIGKILL).code == -signal.SIGKILL
    states = workspace.trials_in_optuna(study)
    before = [number for number, state in states.items() if state not in ("RUNNING", "WAITING")]
    assert [state for state in states.values() if state == "RUNNING"], "the kill came between two trials"

    process = workspace.fork("resume", study)  # and once more, soon after the start
    process.wait_until_it_says("of them done")
    process.end_by(signal.SIGKILL, after=0.3)

    document = workspace.call("resume", study, "--json").document
    assert sum(document["trials"].values()) == 5
    after = workspace.trials_in_optuna(study)
    assert len(after) == 5
    assert not {"RUNNING", "WAITING"} & set(after.values())
    assert {number: after[number] for number in before} == {number: states[number] for number in before}
    assert workspace.trials_in_mlflow() == {document["run_id"]: list(range(5))}


@pytest.mark.slow
def test_no_feasible_trial_is_code_4(workspace) -> None:
    impossible = ("--set", 'constraints={macs: "<= 1"}', "--set", "search.trials=3")
    ended = workspace.call("search", "spec.yaml", *UNTRACKED, *impossible, "--json", code=4)
    assert ended.document["error"]["type"] == "NoFeasibleTrialError"
    assert "rejected" in ended.document["error"]["message"]


@pytest.mark.slow
def test_bounds_may_be_shares_of_the_dense_model(workspace) -> None:
    bounds = 'constraints={macs: "<= 60% of dense", accuracy: ">= 0.5 of dense"}'
    search = ("search", "spec.yaml", "--set", bounds, "--set", "search.workers=2", "-o", "runs/shares", "--json")
    document = workspace.call(*search, *UNTRACKED).document
    result = read_study(workspace.folder / "runs/shares")
    dense, *others = result.outcome.trials
    assert not dense.violations
    assert dense.state == "complete"
    for trial in others:
        over = trial.metrics["macs"].value - 0.6 * dense.metrics["macs"].value
        assert trial.violations["macs"] == pytest.approx(over)
        if over > 0:
            assert trial.state == "rejected"
            assert "is not <= 60% of dense, " in trial.reason
        elif trial.state == "complete":
            under = 0.5 * dense.metrics["accuracy"].value - trial.metrics["accuracy"].value
            assert trial.violations["accuracy"] == pytest.approx(under)
    assert {trial.state for trial in others} >= {"complete", "rejected"}
    assert document["front"]
    best = result.select("accuracy >= 60% of dense", minimize="macs")
    assert best.trial.metrics["accuracy"].value >= 0.6 * dense.metrics["accuracy"].value


@pytest.mark.parametrize("command", ["search", "explain"])
def test_data_that_is_missing_is_told_in_one_line(command: str, workspace) -> None:
    ended = workspace.call(command, "spec.yaml", "--set", "data={use: parquet, path: nowhere}", code=2)
    assert ended.err.count("\n") == 1
    assert "nowhere" in ended.err
    assert not (workspace.folder / "runs").exists()
