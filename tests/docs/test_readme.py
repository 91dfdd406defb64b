"""Everything in the README runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autoprune.cli.run import run as command
from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Evaluator, Scorer
from autoprune.testing import ScorerConformance
from tests.docs.pages import BASE, ROOT, blocks, yaml_of

BLOCKS = [(block.language, block.text) for block in blocks(ROOT / "README.md")]


def block(language: str, *, holding: str) -> str:
    [found] = [text for name, text in BLOCKS if name == language and holding in text]
    return found


def test_first_block_sets_up_and_searches_the_embedded_default() -> None:
    language, first = BLOCKS[0]
    command = first.strip()
    assert language == "sh"
    assert "\n" not in command
    install, search = command.split(" && ", 1)[1].rsplit(" && ", 1)
    assert install == ".venv/bin/pip install -c constraints.txt ."
    spec = load_spec(ROOT / search.removeprefix(".venv/bin/autoprune search "))
    assert spec.model == {"use": "digits-cnn"}
    assert spec.search.trials >= 24


def test_second_block_is_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    [program] = re.findall(r"awk '(.*?)' README.md", script)
    done = subprocess.run(["awk", program, str(ROOT / "README.md")], capture_output=True, text=True, check=True)
    assert done.stdout == BLOCKS[1][1]


def test_the_spec_is_valid(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(block("yaml", holding="cifar10-resnet20"), encoding="utf-8")
    assert load_spec(spec).objectives["robust_accuracy"] == "maximize"


def test_the_knobs_are_valid(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    with spec.open("w", encoding="utf-8") as stream:
        YAML().dump(BASE | yaml_of(block("yaml", holding="choose:")), stream)
    load_spec(spec)


def quicker(spec: Path) -> None:
    """The spec that `autoprune init` wrote, with shorter measurements: what commands do is the same."""
    text = spec.read_text(encoding="utf-8")
    for long, short in (
        ("batch_size: 64}", "batch_size: 64, seconds: 0.1}"),
        ("steps: 10, samples: 256", "steps: 2, samples: 64"),
    ):
        assert long in text
        text = text.replace(long, short)
    spec.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the commands of the README ran, in their order and in this process.

    That the program itself does the same is shown by ``tests/integration``.
    """
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a program would show them
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for line in block("sh", holding="autoprune init").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "autoprune"
            assert command(arguments) == 0, line
            if arguments[0] == "init":
                quicker(folder / "spec.yaml")
        yield folder


@pytest.mark.slow
def test_the_commands_run(workplace: Path) -> None:
    _, *trials = (workplace / "runs" / "digits-1" / "trials.csv").read_text(encoding="utf-8").splitlines()
    assert len(trials) == 10, "eight of the search, and two more when it was resumed"


@pytest.mark.long
@pytest.mark.slow
def test_the_notebook_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = workplace / "spec.yaml"
    spec.write_text(spec.read_text(encoding="utf-8").replace("trials: 24", "trials: 4"), encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(block("python", holding='autoprune.search("spec.yaml")'), scope)
    assert "robust_accuracy" in capsys.readouterr().out
    exec(block("python", holding="model=network"), scope)
    assert Path("smaller", "recipe.json").exists()


@pytest.mark.slow
def test_the_plugin_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    site, project = tmp_path / "site", tomllib.loads(block("toml", holding="autoprune-farthest"))
    info = site / "autoprune_farthest-0.1.0.dist-info"
    info.mkdir(parents=True)
    (site / "autoprune_farthest.py").write_text(block("python", holding="autoprune_farthest.py"), encoding="utf-8")
    name, version = project["project"]["name"], project["project"]["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    [(entry, module)] = project["project"]["entry-points"]["autoprune"].items()
    (info / "entry_points.txt").write_text(f"[autoprune]\n{entry} = {module}\n", encoding="utf-8")

    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)

    assert command(["plugins", "show", "farthest", "--json"]) == 0
    assert "power" in capsys.readouterr().out
    assert command(["init", "spec.yaml"]) == 0
    settings = ["scorer={use: farthest, power: 2}", "search.trials=3", "tracking.enabled=false"]
    settings += [f"{key}={BASE[key]}" for key in ("evaluators", "objectives")]
    overrides = [part for setting in settings for part in ("--set", setting)]
    capsys.readouterr()
    assert command(["search", "spec.yaml", "--json", *overrides]) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert trials["failed"] == 0
    assert trials["complete"] + trials["rejected"] == 3


class TestThePlugin(ScorerConformance):
    """The README's own plugin passes the kit."""

    @pytest.fixture
    def component(self, tmp_path: Path) -> Scorer:
        file = tmp_path / "autoprune_farthest.py"
        file.write_text(block("python", holding="autoprune_farthest.py"), encoding="utf-8")
        [farthest] = PluginHost(()).load_file(file).components
        made = farthest.model_validate({"power": 2})
        assert isinstance(made, Scorer)
        return made


def test_the_evaluators_are_those_that_are_there() -> None:
    [line] = [text for text in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "Evaluators:" in text]
    told = set(re.findall(r"`([a-z0-9-]+)`", line))
    there = set(PluginHost().components(Evaluator))  # type: ignore[type-abstract]
    assert told == there - {"metric"}, "a metric of one's own has a line of its own"
