"""The JSON Schema that editors check specs by, judged by an independent validator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.host.schema import json_schema
from autoprune.plugin import Recovery, Scorer
from autoprune.spec import read_text

from ..spec.broken_specs import BROKEN, GOOD, Broken
from .toys import _Toy, toy_host

HOST = toy_host()
SCHEMA = json_schema(HOST)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FINE = {"use": "fine-tune", "lr": {"low": 0.1, "high": 1, "log": True}, "epochs": {"choose": [1, 2.5]}}
BEYOND_A_SCHEMA = {
    # text that reads as fine data once the reader's own complaints are left out
    *("duplicate-key", "duplicate-inner-key", "tag", "list-as-key"),
    # what takes two keys, or arithmetic, to see
    *("trial-timeout-alone", "crossed-ratios", "crossed-group-ratios", "epsilon", "two-masks", "all-of-m"),
    "crossed-bounds",
    # what takes a look at the disk
    "no-plugin",
    # metrics are suggested, not enforced
    *("unknown-objective", "unmeasured-objective", "unknown-constraint", "metric-twice"),
}


def good() -> Any:
    return read_text(GOOD)[0].data


def edited(change: Callable[[Any], object]) -> Any:
    data = good()
    change(data)
    return data


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_good_spec_is_valid() -> None:
    assert list(VALIDATOR.iter_errors(good())) == []


@pytest.mark.parametrize("broken", [b for b in BROKEN if read_text(b.text)[0].data is not None], ids=lambda b: b.id)
def test_broken_specs_are_invalid_as_far_as_a_schema_can_tell(broken: Broken) -> None:
    valid = VALIDATOR.is_valid(read_text(broken.text)[0].data)
    assert valid == (broken.id in BEYOND_A_SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(scorer=[{"use": "l1"}, {"use": "taylor", "batches": 2}]),
        lambda data: data.update(strategy=[{"use": "one-shot", "recover": {"use": "fine-tune", "epochs": 0.5}}]),
        lambda data: data.pop("scorer"),
        lambda data: data.update(task={"use": "regression"}, plugins=["./mine.py"]),
        lambda data: data.update(transforms=[{"use": "low-rank", "layers": {"low": 1, "fc": 0.5}}], observers=[]),
        lambda data: data.update(exporters=[{"use": "onnx"}], observers=[{"use": "csv", "file": "${FILE}"}]),
        lambda data: data.update(scorer={"choose": [{"use": "l1"}, {"use": "taylor", "batches": {"choose": [1, 2]}}]}),
        lambda data: data["strategy"].update(recover=[{"use": "none"}, {"choose": [{"use": "none"}, FINE]}]),
        lambda data: data["strategy"].update(recover={"choose": [{"use": "none"}, [{"use": "none"}, FINE]]}),
        lambda data: data["strategy"].update(recover={"use": "fine-tune", "lr": {"low": "${LOW}", "high": 1}}),
        lambda data: data["search"].update(trials="${TRIALS:-20}", timeout="${LIMIT}", sampler={"use": "tpe"}),
        lambda data: data.update(name="run-${SEED}", device="cuda:1", output=None),
        lambda data: data["evaluators"][0].update(samples="${SAMPLES}", label="val"),
        lambda data: data["objectives"].update({"accuracy_val": "maximize", "latency_ms": "${DIRECTION}"}),
        lambda data: data["search_space"]["groups"].update({"*": "keep", "a": {"low": 0.1}, "b": {}}),
        lambda data: data.update(model={"use": "factory", "target": "m:f", "weights": "w.pt", "arguments": {"n": [1]}}),
    ],
)
def test_other_ways_to_write_a_spec_are_valid(change: Callable[[Any], object], tmp_path: Path) -> None:
    data = edited(change)
    assert [error.message for error in VALIDATOR.iter_errors(data)] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["strategy"]["recover"].update(sample=3),
        lambda data: data.update(task=[{"use": "regression"}]),
        lambda data: data.update(transforms={"use": "low-rank"}),
        lambda data: data.update(transforms=[{"use": "low-rank", "method": {"low": 1, "high": 2}}]),
        lambda data: data.update(scorer={"choose": [{"use": "l1"}, {"use": "one-shot"}]}),
        lambda data: data["strategy"].update(recover={"choose": [{"use": "none"}, {"use": "l1"}]}),
        lambda data: data["strategy"].update(recover={"use": "fine-tune", "lr": {"low": 0.1}}),
        lambda data: data["strategy"].update(recover={"use": "fine-tune", "lr": {"choose": [1, "fast"]}}),
        lambda data: data["evaluators"][1].update(batch_size={"choose": [1, 2]}),
        lambda data: data["search"].update(executor={"use": "tpe"}),
        lambda data: data["strategy"].update(recover={"use": "l1"}),
        lambda data: data["strategy"].update(recover={"samples": 3}),
        lambda data: data.update(scorer={"use": "one-shot"}),
        lambda data: data.update(scorer={"use": "l1", "batches": 3}),
        lambda data: data["search"].update(trials="20 or so"),
        lambda data: data["search"].update(timeout="soon"),
        lambda data: data["evaluators"].append({"use": "pgd"}),
        lambda data: data["constraints"].update(accuracy="> 1"),
        lambda data: data["objectives"].update(accuracy="max"),
    ],
)
def test_slips_are_invalid(change: Callable[[Any], object]) -> None:
    assert not VALIDATOR.is_valid(edited(change))


def test_it_tells_what_editors_show() -> None:
    properties, definitions = SCHEMA["properties"], SCHEMA["$defs"]
    assert all("description" in section or "$ref" in section for section in properties.values())
    taylor = definitions["Taylor"]
    assert taylor["properties"]["use"]["const"] == "taylor"
    assert taylor["required"] == ["use"]
    assert taylor["additionalProperties"] is False
    batches = taylor["properties"]["batches"]
    assert (batches["description"], batches["default"]) == ("Batches of the train split.", 32)
    assert definitions["OneShot"]["properties"]["recover"]["default"] == [{"use": "none"}]
    assert definitions["Pgd"]["required"] == ["use", "epsilon"]
    assert properties["objectives"]["properties"]["accuracy"]["description"] == "Share of right predictions. [fraction]"
    assert set(properties["constraints"]["properties"]) == {
        "accuracy",
        "latency_ms",
        "latency_ratio",
        "macs",
        "robust_accuracy",
    }
    assert properties["scorer"]["default"] == [{"use": "l1"}, {"use": "l2", "weights": "fan-out"}, {"use": "taylor"}]


def test_two_components_of_one_class_name_both_find_their_place() -> None:
    class Taylor(_Toy, Scorer):
        name = "taylor-2"
        order: int = 2

    validator = jsonschema.Draft202012Validator(json_schema(toy_host(Taylor)))
    assert validator.is_valid(edited(lambda data: data.update(scorer={"use": "taylor-2", "order": 1})))
    assert validator.is_valid(edited(lambda data: data.update(scorer={"use": "taylor", "batches": 1})))
    assert not validator.is_valid(edited(lambda data: data.update(scorer={"use": "taylor", "order": 1})))


def test_an_option_without_a_schema_does_no_harm() -> None:
    from pydantic import ConfigDict

    class Odd(_Toy, Recovery):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        name = "odd"
        thing: slice = slice(3)

    validator = jsonschema.Draft202012Validator(json_schema(toy_host(Odd)))
    assert validator.is_valid(edited(lambda data: data["strategy"].update(recover={"use": "odd", "thing": 1})))
    assert not validator.is_valid(edited(lambda data: data["strategy"].update(recover={"use": "odd", "think": 1})))


def test_without_plugins_nothing_can_be_named() -> None:
    schema = json_schema(PluginHost([]))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid(good())


def test_it_agrees_with_the_checker_on_the_good_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(GOOD)
    assert VALIDATOR.is_valid(load_spec(tmp_path / "spec.yaml", host=HOST).document.data)
