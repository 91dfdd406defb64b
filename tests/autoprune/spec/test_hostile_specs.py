"""Specs that are large, deep or odd are told about in lines, at once."""

from __future__ import annotations

import pytest

from autoprune import AutopruneError, SpecError, load_spec, spec_from_mapping
from autoprune.errors import Mistake, StudyError, shown
from autoprune.spec import read_text
from autoprune.spec.mistakes import nearest

SPEC = """\
name: a
model: {use: digits-cnn}
data: {use: digits}
evaluators: [{use: accuracy}]
objectives: {accuracy: maximize}
"""


def told(text: str, tmp_path) -> list[str]:
    file = tmp_path / "spec.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load_spec(file)
    return str(error.value).splitlines()


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "9" * 5000, "-" + "9" * 5000, "0o" + "7" * 5000, "1" * 310])
@pytest.mark.parametrize("key", ["search.trials", "search.early_rejection", "constraints.accuracy", "name"])
def test_long_numbers(number: str, key: str, tmp_path) -> None:
    section, _, name = key.partition(".")
    lines = told(SPEC + (f"{section}: {{{name}: {number}}}\n" if name else f"device: {number}\n"), tmp_path)
    assert len(lines) == 1
    assert len(lines[0]) < 300


def test_long_numbers_of_python() -> None:
    with pytest.raises(SpecError, match="holds what a spec cannot say"):
        spec_from_mapping({"search": {"trials": 10**5000}})
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(SpecError):
        spec_from_mapping({"model": deep})


@pytest.mark.slow
def test_many_mistakes_are_told_up_to_a_number(tmp_path) -> None:
    for text in (
        "".join(f"objective{number}: 1\n" for number in range(8000)),
        "objectives: {" + ", ".join(f"accurac{number}: maximize" for number in range(5000)) + "}\n",
        "data: {use: digits, " + ", ".join(f"valid{number}: 1" for number in range(5000)) + "}\n",
        "evaluators: [" + ", ".join(f"{{use: accuracy{number}}}" for number in range(3000)) + "]\n",
    ):
        keys = {line.partition(":")[0] for line in text.splitlines()}
        rest = "".join(line + "\n" for line in SPEC.splitlines() if line.partition(":")[0] not in keys)
        lines = told(rest + text, tmp_path)
        assert len(lines) == 101
        assert "more mistakes" in lines[-1] + lines[0]


def test_long_names_have_no_near_ones() -> None:
    assert nearest("acuracy", ["accuracy"]) == "accuracy"
    assert nearest("a" * 100_000, ["a" * 100_000 + "b"]) is None


def test_control_characters_are_shown_escaped(tmp_path) -> None:
    odd = "\x1b[31m\x07\u202e\u2028\x85"
    lines = told(SPEC + '"a\\e[31mb\\a\\u202e": 1\ndevice: "\\e[2J"\n', tmp_path)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert r"\x1b[31m" in lines[0] + lines[1]
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path / f"none{odd}.yaml")
    assert str(error.value).isprintable()
    assert str(Mistake(("a\nb",), "c\x1b")) == r"<spec>:1:1: a b: c\x1b"


def test_many_values_are_too_many(tmp_path) -> None:
    (line,) = told(SPEC + "plugins: [" + "0," * 90_000 + "]\n", tmp_path)
    assert "too many for a spec" in line


def test_half_a_character_is_none(tmp_path) -> None:
    lines = told(SPEC + '"k\\ud800": 1\nsearch: {storage: "a\\udfff", "\\ud800": 2}\n', tmp_path)
    assert len(lines) == 3
    assert all("half of a character" in line for line in lines)
    assert read_text('"\\ud83d\\ude00": "\\ud83d\\ude00"')[0].data == {"\U0001f600": "\U0001f600"}


def test_every_error_is_shown_so() -> None:
    for kind in (AutopruneError, StudyError):
        assert str(kind("a\x1b[0m\nb\r\u202e\udcff")) == "a\\x1b[0m\nb\\r\\u202e\\udcff"
    assert shown("plain ü €") == "plain ü €"


def test_odd_texts_are_no_tracebacks() -> None:
    for text in (
        "\x00",
        "%YAML 9.9\n---\na: 1",
        "? [a]\n: b",
        "a: !!python/object:os.system x",
        "{" * 5000,
        "- " * 5000,
    ):
        read_text(text)
