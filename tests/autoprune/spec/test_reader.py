"""Reading YAML: what values are, where they stand, and every mistake of form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from autoprune.errors import SpecError
from autoprune.spec import read_document, read_text, write_text


def lines(text: str, *overrides: str) -> list[str]:
    """Every mistake in a text."""
    return [str(mistake) for mistake in SpecError(read_text(text, overrides)[1]).mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E+2", -150.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("12", 12),
        ("012", 12),
        ("+1", 1),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        # text in YAML 1.2, though not in YAML 1.1
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("0b1", "0b1"),
        ("2/255", "2/255"),
        # quotes make text of anything
        ("'1e-3'", "1e-3"),
        ('"null"', "null"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """https://yaml.org/spec/1.2.2/#103-core-schema."""
    document, mistakes = read_text(f"key: {text}\n")
    assert not mistakes
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)


def test_not_a_number_and_endless_integers() -> None:
    data = read_text(f"nan: .nan\nlong: {'9' * 5000}\n")[0].data
    assert math.isnan(data["nan"])
    assert data["long"] == math.inf


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_what_is_written_is_read_as_it_was(data: dict[str, object]) -> None:
    """Every kind of value and nesting, in its order; ruamel.yaml's own reader agrees."""
    text = write_text(data)
    document, mistakes = read_text(text)
    assert not mistakes
    assert json.dumps(document.data) == json.dumps(data)
    if "${" not in json.dumps(data):
        assert YAML(typ="safe", pure=True).load(text) == data


def test_keys_are_the_text_they_are() -> None:
    data = read_text("0: a\n1.0: b\ntrue: c\nnull: d\n'x y': e\n")[0].data
    assert data == {"0": "a", "1.0": "b", "true": "c", "null": "d", "x y": "e"}


def test_every_key_and_item_has_its_place() -> None:
    document, _ = read_text("# head\na: 1\nb:\n  c: [x, {d: 2}]\n  e:\n  - f\n  - g: 3\n")
    assert document.marks == {
        (): (2, 1),
        ("a",): (2, 1),
        ("b",): (3, 1),
        ("b", "c"): (4, 3),
        ("b", "c", 0): (4, 7),
        ("b", "c", 1): (4, 10),
        ("b", "c", 1, "d"): (4, 11),
        ("b", "e"): (5, 3),
        ("b", "e", 0): (6, 5),
        ("b", "e", 1): (7, 5),
        ("b", "e", 1, "g"): (7, 5),
    }


def test_a_mistake_stands_at_its_nearest_ancestor() -> None:
    document, _ = read_text('search_space:\n  groups:\n    "layer1.*": {high: 0.5}\n', file="spec.yaml")
    path = ("search_space", "groups", "layer1.*")
    assert str(document.mistake(path, "x")) == 'spec.yaml:3:5: search_space.groups."layer1.*": x'
    assert str(document.mistake((*path, "low"), "x")) == 'spec.yaml:3:5: search_space.groups."layer1.*".low: x'
    assert str(document.mistake(("model",), "x")) == "spec.yaml:1:1: model: x"


def test_reading_goes_on_behind_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    assert lines("a: &x 1\nb: *x\na: 2\nc: !!set {}\nd: ${UNSET}\ne: [1\n") == [
        "<spec>:1:4: a: anchors are not read; quote text that begins with &",
        "<spec>:2:4: b: aliases are not read; quote text that begins with *",
        "<spec>:3:1: a: this key stands in line 1 already",
        "<spec>:4:4: c: tags are not read; quote text that begins with !",
        "<spec>:5:4: d: the environment variable UNSET is not set; set it, or write ${UNSET:-default}",
        (
            "<spec>:7:1: spec: not YAML: expected ',' or ']', but got '<stream end>', "
            "while parsing a flow sequence that begins in line 6"
        ),
    ]


def test_the_first_of_two_equal_keys_counts() -> None:
    document, mistakes = read_text("a: {b: 1}\na: {c: [2]}\n")
    assert document.data == {"a": {"b": 1}}
    assert set(document.marks) == {(), ("a",), ("a", "b")}
    assert len(mistakes) == 1


def test_an_alias_bomb_stays_small() -> None:
    """324 bytes that expand to 2 GB where aliases are followed."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    document, mistakes = read_text(bomb)
    assert len(mistakes) == 9 + 80
    assert document.data["a8"] == [None] * 10


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 50_000, "a: " + "{" * 50_000, "- " * 50_000, "? " * 50_000])
def test_deep_nesting_is_refused_without_recursion(text: str) -> None:
    document, mistakes = read_text(text)
    assert document.data is None
    assert len(mistakes) == 1


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        document, (mistake,) = read_document(tmp_path / "spec.yaml")
        assert str(mistake) == f"{tmp_path}/spec.yaml:1:1: spec: cannot be read: No such file or directory"
        assert document.data is None

    def test_folder(self, tmp_path: Path) -> None:
        assert "cannot be read: Is a directory" in str(read_document(tmp_path)[1][0])

    def test_not_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "spec.yaml").write_bytes("name: x\nöl: ".encode() + b"\xe9\n")
        (mistake,) = read_document(tmp_path / "spec.yaml")[1]
        assert (mistake.line, mistake.column, mistake.message) == (2, 5, "is not UTF-8 text")

    def test_byte_order_mark(self, tmp_path: Path) -> None:
        (tmp_path / "spec.yaml").write_text("name: ü\n", encoding="utf-8-sig")
        document, mistakes = read_document(tmp_path / "spec.yaml")
        assert (document.data, mistakes) == ({"name": "ü"}, [])

    def test_windows_line_ends(self, tmp_path: Path) -> None:
        (tmp_path / "spec.yaml").write_bytes(b"a: 1\r\nb: 2\r\n")
        document, _ = read_document(tmp_path / "spec.yaml")
        assert (document.data, document.marks["b",]) == ({"a": 1, "b": 2}, (2, 1))

    def test_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "spec.yaml").write_text("#" * 200_001)
        assert "is larger than 200 kB" in str(read_document(tmp_path / "spec.yaml")[1][0])

    def test_knows_text_and_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "spec.yaml").write_text("name: ${NAME}  # note\n")
        monkeypatch.setenv("NAME", "x")
        monkeypatch.chdir(tmp_path)
        document, _ = read_document("spec.yaml", ["name=y"])
        assert document.text == "name: ${NAME}  # note\n"
        assert (document.file, document.folder, document.overrides) == ("spec.yaml", tmp_path, ("name=y",))
        assert read_document("spec.yaml", folder=tmp_path / "other")[0].folder == tmp_path / "other"


class TestPlaceholders:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SET", "7")
        monkeypatch.setenv("EMPTY", "")
        monkeypatch.delenv("UNSET", raising=False)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("${SET}", 7),
            ("'${SET}'", "7"),
            ("x${SET}", "x7"),
            ("${SET}${SET}", "77"),
            ("${UNSET:-1e-3}", 1e-3),
            ("'${UNSET:-1e-3}'", "1e-3"),
            ("${UNSET:-}", None),
            ("'${UNSET:-}'", ""),
            ("${SET:-8}", 7),
            ("${EMPTY:-8}", 8),
            ("'${EMPTY}'", ""),
            ("a/${UNSET:-b/c}/d", "a/b/c/d"),
            ("$${SET}", "${SET}"),
            ("$$${SET}", "$${SET}"),
            ("$SET", "$SET"),
            ("$", "$"),
        ],
    )
    def test_in_values(self, text: str, value: object) -> None:
        document, mistakes = read_text(f"key: {text}\n")
        assert not mistakes
        assert document.data == {"key": value}
        assert type(document.data["key"]) is type(value)

    def test_not_in_keys(self) -> None:
        assert read_text("${SET}: 1\n")[0].data == {"${SET}": 1}

    @pytest.mark.parametrize("text", ["${", "${}", "${1X}", "${SET", "${SET:8}", "${SET:-{}}", "${a b}"])
    def test_malformed(self, text: str) -> None:
        (line,) = lines(f"key: '{text}'\n")
        assert line == "<spec>:1:6: key: write a placeholder as ${NAME} or ${NAME:-default}, and a plain ${ as $${"

    def test_missing_stands_at_the_value(self) -> None:
        document, (mistake,) = read_text("a:\n  b: [1, 'x${UNSET}']\n")
        assert str(mistake).startswith("<spec>:2:10: a.b.1: the environment variable UNSET is not set")
        assert document.unreadable == {("a", "b", 1)}
        assert not document.reads(("a", "b", 1, "c"))
        assert document.reads(("a", "b"))


class TestOverrides:
    TEXT = 'a: {b: 1, c: [x, {d: 2}]}\ngroups: {"layer1.*": {high: 0.5}, head: keep}\nempty:\n'

    @pytest.mark.parametrize(
        ("override", "path", "value"),
        [
            ("a.b=2", ("a", "b"), 2),
            ("a.b=", ("a", "b"), None),
            ("a.b='2'", ("a", "b"), "2"),
            ("a.b=x=y", ("a", "b"), "x=y"),
            ("a.b=[1, {e: f}]", ("a", "b"), [1, {"e": "f"}]),
            ("a.c.0=y", ("a", "c", 0), "y"),
            ("a.c.1.d=1e-3", ("a", "c", 1, "d"), 1e-3),
            ('groups."layer1.*".high=0.25', ("groups", "layer1.*", "high"), 0.25),
            ("groups.'layer1.*'=keep", ("groups", "layer1.*"), "keep"),
            ("new.deep.key=1", ("new", "deep", "key"), 1),
            ("empty.key=1", ("empty", "key"), 1),
            ("0=1", ("0",), 1),
        ],
    )
    def test_sets_one_value(self, override: str, path: tuple[str | int, ...], value: object) -> None:
        document, mistakes = read_text(self.TEXT, [override])
        assert not mistakes
        found = document.data
        for part in path:
            found = found[part]
        assert found == value
        assert document.mistake((*path, "x"), "wrong").file == f"--set {override}"
        assert document.text == self.TEXT

    def test_leaves_the_rest(self) -> None:
        document, _ = read_text(self.TEXT, ["a.c.1.d=3"])
        assert document.data == {
            "a": {"b": 1, "c": ["x", {"d": 3}]},
            "groups": {"layer1.*": {"high": 0.5}, "head": "keep"},
            "empty": None,
        }
        assert document.mistake(("a", "c", 0), "x").line == 1
        assert document.mistake(("a", "c", 0), "x").file == "<spec>"

    def test_the_last_one_counts(self) -> None:
        document, _ = read_text(self.TEXT, ["a.b=2", "a={b: 3}", "a.c=4", "a.c=5"])
        assert document.data["a"] == {"b": 3, "c": 5}
        assert document.mistake(("a", "b"), "x").file == "--set a={b: 3}"
        assert document.mistake(("a", "c"), "x").file == "--set a.c=5"

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("a.b", "spec: write path.to.key=value"),
            ("=1", "spec: write path.to.key=value"),
            ("a..b=1", "spec: write path.to.key=value"),
            ('a."b=1', "spec: write path.to.key=value"),
            ("a.b=[1", "a.b: not YAML: expected ',' or ']'"),
            ("a.b=*x", "a.b: aliases are not read"),
            ("a.b=${AUTOPRUNE_UNSET}", "a.b: the environment variable AUTOPRUNE_UNSET is not set"),
            ("a.b.c=1", "a.b: is 1, which holds no 'c'"),
            ("a.c.2=1", "a.c.2: a.c is a list of 2; its items are numbered from 0"),
            ("a.c.-1=1", "a.c.-1: a.c is a list of 2"),
            ("groups.head.high=1", "groups.head: is 'keep', which holds no 'high'"),
        ],
    )
    def test_wrong_ones(self, override: str, message: str) -> None:
        (line,) = lines(self.TEXT, override)
        assert line.startswith(f"--set {override}:1:1: {message}")

    def test_heals_what_could_not_be_read(self) -> None:
        text = "a: {b: '${AUTOPRUNE_UNSET}'}\nc: *x\n"
        assert len(lines(text)) == 2
        assert len(lines(text, "a.b=1")) == 1
        assert lines(text, "a={}", "c=2") == []

    def test_on_an_unreadable_document(self) -> None:
        assert [line.partition(" ")[0] for line in lines("a: [", "b", "c=1")] == ["--set", "<spec>:1:5:"]
