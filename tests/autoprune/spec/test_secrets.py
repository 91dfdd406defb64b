"""No password of a URI is shown, whatever characters it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.spec import Spec, parse, read_text, write_text
from autoprune.spec.secrets import holds_password, masked, masked_data, taken_out, without_user

PASSWORDS = ["secret", "pa/ss", "p@ss", "a:b", "x#y?z", "sp ace", "p%40ss", "ü€", "${A}b", "${A:-b}", "'q\"", "a@b/c@d"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", ["postgresql://me:{}@db/x", "http://:{}@h:1/", "redis+tls://u:{}@h", "a: b://u:{}@h"])
def test_passwords_of_uris(password: str, form: str) -> None:
    uri = form.format(password)
    assert masked(uri, whole=True) == form.format("***")
    assert holds_password(uri, whole=True)
    assert masked(masked(uri, whole=True), whole=True) == masked(uri, whole=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "tried postgresql://me:p%40ss@db/x, then http://u:w/v@h:1/ .",
            "tried postgresql://me:***@db/x, then http://u:***@h:1/ .",
        ),
        ("http://h:1/x is down; mail me@home", "http://h:1/x is down; mail me@home"),
        ("postgresql://h/db?user=me&password=x%20y&ssl=1", "postgresql://h/db?user=me&password=***&ssl=1"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DPWD%3Dx", "mssql+pyodbc:///?odbc_connect=***"),
        ("https://h/?api_key=abc#top", "https://h/?api_key=***#top"),
        ("postgresql://${USER}:${PASSWORD}@h/db", "postgresql://${USER}:${PASSWORD}@h/db"),
        ("sqlite:///a@b.db and file://c:/d", "sqlite:///a@b.db and file://c:/d"),
    ],
)
def test_passwords_in_texts(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_what_is_told_of_a_password_in_another_way() -> None:
    """A driver that reads ``a/b@c`` as a host tells that there is none of that name."""
    uri = "postgresql://me:abc/def@ghi@host/db"
    assert masked("no host def@ghi@host, nor abc", of=(uri,)) == "no host ***@***@host, nor ***"
    assert masked("no abc%2Fdef%40ghi, no abc/def@ghi", of=(uri,)) == "no ***, no ***"


@given(st.text(min_size=3).filter(str.strip))
def test_any_password(password: str) -> None:
    uri = f"postgresql://me:{password}@host/db"
    shown = masked(uri, whole=True)
    assert shown == "postgresql://me:***@host/db" or not holds_password(uri, whole=True)
    text, variables = taken_out({"a": [uri, {"b": uri}]}, write_text)
    if holds_password(uri, whole=True):
        assert list(variables.values()) == [password]
        assert text.count("${AUTOPRUNE_PASSWORD:-}") == 2
        assert masked_data([uri]) == [shown]


def test_users_are_taken_out_of_addresses() -> None:
    assert without_user("http://me:a/b@c@host:5000/x") == "http://host:5000/x"
    assert without_user("http://me@host/x@y") == "http://host/x@y"
    assert without_user("http://host/x@y") == "http://host/x@y"


SPEC = """\
name: a
model: {use: digits-cnn}
data: {use: digits}
evaluators: [{use: accuracy}]
objectives: {accuracy: maximize}
"""


def test_a_study_asks_for_what_it_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    written = SPEC + 'search: {storage: "postgresql://u:pa/ss@h/db"}\ntracking: {uri: "http://u:o\\u0074her$${X}@h"}\n'
    document, mistakes = read_text(written)
    assert document.secret
    spec, more = parse(document)
    assert spec is not None
    assert not [*mistakes, *more]
    text, variables = taken_out(spec.model_dump(mode="json"), write_text)
    assert variables == {"AUTOPRUNE_PASSWORD": "pa/ss", "AUTOPRUNE_PASSWORD_2": "other${X}"}
    assert not read_text(text)[0].secret
    assert not any(password in text for password in ("pa/ss", "other"))
    monkeypatch.setattr("os.environ", {})
    without = parse(read_text(text)[0])[0]
    assert without is not None
    assert without.search.storage == "postgresql://u:@h/db"
    monkeypatch.setattr("os.environ", variables)
    again = parse(read_text(text)[0])[0]
    assert isinstance(again, Spec)
    assert again == spec


@pytest.mark.parametrize(
    ("more", "overrides", "secret"),
    [
        ("", (), False),
        ("# postgresql://u:pw@h\n", (), True),
        ('tracking: {uri: "http://u:${PW}@h"}\n', (), False),
        ('tracking: {uri: "${URI}"}\n', (), False),
        ('tracking: {uri: "http://u:${PW:-abc}@h"}\n', (), True),
        ('tracking: {uri: "http:\\u002f/u\\u003aabc\\u0040h"}\n', (), True),
        ("", ("tracking.uri=http://u:pa/ss@h",), True),
        ("", ("tracking.uri='http://u:pa ss@h'",), True),
        ("", ("tracking.uri=http://u:${PW}@h",), False),
    ],
)
def test_where_passwords_stand(
    more: str, overrides: tuple[str, ...], secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "a/b")
    monkeypatch.setenv("URI", "http://u:a/b@h")
    assert read_text(SPEC + more, overrides)[0].secret is secret


def test_mistakes_do_not_tell_them() -> None:
    overrides = ["search.storage.x=postgresql://u:pa ss/w@ord@h", "search.trials=postgresql://u:p@h/", "x=a://u:p w@h"]
    document, mistakes = read_text(SPEC + "tracking: {uri: 'http://u:pa ss/w@ord@h'}", overrides)
    document2, mistakes2 = read_text(SPEC, ["tracking.uri=http://u:pa ss/w@ord@h", "tracking.uri.x=1"])
    told = [str(each) for each in (*mistakes, *mistakes2, *parse(document)[1], *parse(document2)[1])]
    assert len(told) >= 3
    assert not any("pa ss" in each or "ord" in each or "p@h" in each or "p w" in each for each in told), told


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a", "a://", "a://b:", "?", "?password", "@", "a://b:@", ";x=", "${A}"])
def test_long_texts_are_looked_through_once(piece: str) -> None:
    """Looked through from every place anew, they would take hours."""
    for text in (piece * 20_000, "@" + piece * 20_000, piece * 20_000 + "@"):
        for whole in (True, False):
            masked(text, whole=whole)
