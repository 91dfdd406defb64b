"""``plugins list``, ``plugins show`` and ``doctor`` with plugins installed for the test."""

from __future__ import annotations

import pytest

GARDEN = '''
from typing import Literal
from pydantic import Field
from autoprune.plugin import Cost, Evaluator, Metric, Recoveries, Recovery, Strategy, hookimpl

class Rest(Recovery):
    """Waits."""
    name = "garden-rest"
    days: int = Field(default=3, ge=1, description="How long.")
    def recover(self, pruned, ctx): ...

class Shears(Strategy):
    """Cuts neatly.

    At length.
    """
    name = "garden-shears"
    size: float = Field(gt=0, lt=9, description="Of the blades.")
    hand: Literal["left", "right"] = Field(default="right", description="Which hand holds them.")
    after: Recovery = Field(default=Rest(days=5), description="What follows.")
    then: Recoveries = Field(default=(Rest(), Rest(days=7)), description="And then.")
    marks: list[str] = Field(default=[], description="On the blades.")
    def prune(self, candidate, ctx): ...

class Ruler(Evaluator):
    """Measures."""
    name = "garden-ruler"
    metrics = (Metric("height_cm", "cm", "maximize", Cost.TIMING, "From the ground."),)
    def evaluate(self, model, ctx): return {"height_cm": 1.0}

@hookimpl
def autoprune_components():
    return Shears, Rest, Ruler
'''
BROKEN = "import a_module_that_nobody_has"


def plugin(document: dict, name: str) -> dict:
    return next(p for p in document["plugins"] if p["name"] == name)


def test_list_shows_what_plugins_bring_and_why_one_is_broken(autoprune, install) -> None:
    install("garden", GARDEN)
    install("weeds", BROKEN)
    document = autoprune("plugins", "list", "--json").document
    assert plugin(document, "garden") == {
        "name": "garden",
        "distribution": "garden",
        "version": "1.5",
        "file": None,
        "error": None,
        "components": [
            {"kind": "strategy", "name": "garden-shears"},
            {"kind": "recovery", "name": "garden-rest"},
            {"kind": "evaluator", "name": "garden-ruler"},
        ],
    }
    weeds = plugin(document, "weeds")
    assert weeds["version"] == "1.5"
    assert weeds["error"] == "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    answer = autoprune("plugins", "list")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert any("garden 1.5" in line and "strategy" in line and "garden-shears" in line for line in lines)
    assert any("weeds 1.5" in line and "BROKEN" in line and "a_module_that_nobody_has" in line for line in lines)


def test_show_gives_every_option(autoprune, install) -> None:
    install("garden", GARDEN)
    (shears,) = autoprune("plugins", "show", "garden-shears", "--json").document["components"]
    assert shears["kind"] == "strategy"
    assert shears["description"] == "Cuts neatly.\n\nAt length."
    assert shears["plugin"] == {"name": "garden", "distribution": "garden", "version": "1.5", "file": None}
    assert shears["metrics"] == []
    assert {option.pop("name"): option for option in shears["options"]} == {
        "size": {"type": "number > 0 and < 9", "required": True, "default": None, "description": "Of the blades."},
        "hand": {
            "type": "left or right",
            "required": False,
            "default": "right",
            "description": "Which hand holds them.",
        },
        "after": {
            "type": "recovery",
            "required": False,
            "default": {"use": "garden-rest", "days": 5},
            "description": "What follows.",
        },
        "then": {
            "type": "list of recovery",
            "required": False,
            "default": [{"use": "garden-rest", "days": 3}, {"use": "garden-rest", "days": 7}],
            "description": "And then.",
        },
        "marks": {"type": "list of text", "required": False, "default": [], "description": "On the blades."},
    }
    text = autoprune("plugins", "show", "garden-shears").out
    assert text.startswith("strategy garden-shears, from garden 1.5\nCuts neatly.\n")
    assert "(required)" in text
    assert '{"use": "garden-rest", "days": 5}' in text


def test_show_gives_the_metrics_of_an_evaluator(autoprune, install) -> None:
    install("garden", GARDEN)
    (ruler,) = autoprune("plugins", "show", "garden-ruler", "--json").document["components"]
    assert ruler["metrics"] == [
        {
            "name": "height_cm",
            "unit": "cm",
            "direction": "maximize",
            "cost": "timing",
            "description": "From the ground.",
        }
    ]
    assert ruler["needs"] == ["data", "labels", "gradients"], "all, as it says nothing"
    text = autoprune("plugins", "show", "garden-ruler").out
    assert "higher" in text
    assert "It needs data, labels, gradients." in text


def test_show_says_why_an_evaluator_has_no_metrics_yet(autoprune, tmp_path) -> None:
    path = tmp_path / "late.py"
    path.write_text(
        "from autoprune.plugin import Evaluator\n\nclass Late(Evaluator):\n    name = 'late'\n"
        "    def declares(self, data): return ()\n    def evaluate(self, model, ctx): ...\n"
    )
    shown = autoprune("plugins", "show", "late", "--plugin", path).out
    assert "Its metrics hang on its options or on the data." in shown


FILE = """
from pydantic import Field
from autoprune.plugin import Exporter, Observer, Task, Transform

class Gate(Transform):
    '''Shuts.'''
    name = "garden-gate"
    wood: str = Field(default="oak", description="Of what.")
    def apply(self, network, choice, ctx): ...
    def rebuild(self, network, choice): ...
    def costs(self, layers, choice): ...

class Harvest(Task):
    '''Ripens.'''
    name = "garden-harvest"
    def loss(self, outputs, targets): ...
    def divergence(self, outputs, dense): ...
    def agreement(self, outputs, dense): ...

class Basket(Exporter):
    '''Holds.'''
    name = "garden-basket"
    def export(self, model, examples, folder, ctx): ...

class Scarecrow(Observer):
    '''Watches.'''
    name = "garden-scarecrow"
"""


@pytest.mark.slow
def test_a_file_is_listed_and_shown_like_an_installed_plugin(autoprune, tmp_path) -> None:
    path = tmp_path / "garden.py"
    path.write_text(FILE)
    document = plugin(autoprune("plugins", "list", "--plugin", path, "--json").document, "garden")
    assert (document["file"], document["error"]) == (str(path), None)
    kinds = ["transform", "task", "exporter", "observer"]
    assert [component["kind"] for component in document["components"]] == kinds
    assert any(
        str(path) in line and "garden-gate" in line
        for line in autoprune("plugins", "list", "--plugin", path).out.splitlines()
    )
    for name, kind in zip(("gate", "harvest", "basket", "scarecrow"), kinds, strict=True):
        assert autoprune("plugins", "show", f"garden-{name}", "--plugin", path).out.startswith(
            f"{kind} garden-{name}, from {path}\n"
        )
    assert autoprune("plugins", "show", "garden-gate").code == 2, "it is not installed"
    schema = autoprune("schema", "--plugin", path, "--json").document
    assert schema["$defs"]["Gate"]["properties"]["use"]["const"] == "garden-gate"


def test_a_file_that_cannot_be_loaded_is_one_line_with_code_3(autoprune, tmp_path) -> None:
    path = tmp_path / "garden.py"
    path.write_text(f"x = 1\n{BROKEN}\n")
    for command in (["plugins", "list"], ["plugins", "show", "l1"], ["schema"]):
        answer = autoprune(*command, "--plugin", path)
        assert (answer.code, answer.out) == (3, "")
        assert answer.err == (f"autoprune: {path}:2: ModuleNotFoundError: No module named 'a_module_that_nobody_has'\n")


def test_show_suggests_a_near_name(autoprune, install) -> None:
    install("garden", GARDEN)
    answer = autoprune("plugins", "show", "garden-shear")
    assert answer.code == 2
    assert "did you mean 'garden-shears'?" in answer.err


def test_doctor_finds_a_sound_installation_sound(autoprune, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answer = autoprune("doctor", "--json")
    assert answer.code == 0
    assert answer.document["ok"]
    checks = {check["name"]: check for check in answer.document["checks"]}
    import torch

    assert f"torch {torch.__version__}" in checks["versions"]["detail"]
    assert "mlflow.db will be created" in checks["tracking"]["detail"]
    assert not list(tmp_path.iterdir()), "looking changes nothing"


def test_doctor_names_a_broken_plugin_with_code_3(autoprune, install, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    install("weeds", BROKEN)
    answer = autoprune("doctor")
    assert answer.code == 3
    assert any("FAULT" in line and "plugin weeds" in line and "nobody_has" in line for line in answer.out.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///broken.db"], ids=["server", "database"])
def test_doctor_says_when_the_tracking_store_is_out_of_reach(uri: str, autoprune, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.db").write_text("this is no database, but long enough to be taken for one " * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    answer = autoprune("doctor", "--json")
    assert answer.code == 1
    assert [check["name"] for check in answer.document["checks"] if not check["ok"]] == ["tracking"]


@pytest.mark.slow
def test_doctor_asks_a_store_that_is_there(autoprune, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    from autoprune.tracking._store import Store, quietly

    with quietly():
        Store(f"sqlite:///{tmp_path}/mlflow.db").experiment("garden")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = {check["name"]: check for check in autoprune("doctor", "--json").document["checks"]}
    assert checks["tracking"]["ok"]
    assert checks["tracking"]["detail"].endswith("mlflow.db answers")
