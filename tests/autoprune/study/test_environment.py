from __future__ import annotations

import platform
import subprocess

import pytest
import torch

from autoprune.spec import Document, Spec
from autoprune.study.environment import environment


@pytest.fixture
def seen(tmp_path):
    """The environment of a spec in that folder."""

    def seen():
        document = {"name": "x", "model": {"use": "x"}, "data": {"use": "x"}, "evaluators": [{"use": "x"}]}
        spec = Spec.model_validate({**document, "objectives": {"accuracy": "maximize"}})
        spec._document = Document(folder=tmp_path)
        return environment(spec, torch.device("cpu"))

    return seen


def test_the_machine_is_told(seen):
    facts = seen()
    assert facts["host"] == platform.node()
    assert float(facts["memory"].removesuffix(" GiB")) > 0
    assert {"autoprune", "torch", "optuna", "python", "cpu"} <= facts.keys()
    assert "gpu" not in facts


def test_the_commit_of_the_specs_folder_is_told_and_whether_files_differ_from_it(seen, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert not {"git_commit", "git_dirty"} & seen().keys(), "no repository"

    def git(*arguments):
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    git("init", "-q")
    (tmp_path / "spec.yaml").write_text("a: 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    facts = seen()
    assert (facts["git_commit"], facts["git_dirty"]) == (git("rev-parse", "HEAD").strip(), "false")
    (tmp_path / "spec.yaml").write_text("a: 2\n")
    assert seen()["git_dirty"] == "true"
    monkeypatch.setenv("PATH", "")
    assert "git_commit" not in seen(), "no git"
