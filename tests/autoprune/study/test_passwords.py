"""A password of a spec is in nothing that a study writes, logs or raises; a study asks the environment for it."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from autoprune.errors import StudyError
from autoprune.host.binding import spec_hash
from autoprune.study import read_study, resume, search
from autoprune.study.folder import StudyFolder

pytestmark = pytest.mark.slow

PASSWORD = "hun/ter2@w:ord"
PARTS = ("hun/ter2", "hun%2Fter2", "ter2@w", "w:ord", "hun\\u002fter2")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUTOPRUNE_PASSWORD", "")
    monkeypatch.delenv("AUTOPRUNE_PASSWORD")


@pytest.fixture(scope="module")
def port() -> int:
    """Where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def written(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


WAYS = {
    "the file": lambda uri: ((), f'tracking: {{uri: "{uri}"}}'),
    "escapes of the file": lambda uri: ((), f'tracking: {{uri: "{uri.replace("/", chr(92) + "u002f")}"}}'),
    "an override": lambda uri: ((f"tracking={{uri: '{uri}'}}",), "tracking: {enabled: false}"),
    "a comment": lambda uri: ((f"tracking={{uri: '{uri}'}}",), f"tracking: {{enabled: false}}  # {uri}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_in_nothing_that_is_written(way, port, spec, host, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    overrides, tracking = WAYS[way](f"http://me:{PASSWORD}@127.0.0.1:{port}/x")
    asked = spec("search.trials=3", *overrides, swap=("tracking: {enabled: false}", tracking))
    result = search(asked, host=host)
    said = caplog.text + "".join(capfd.readouterr()) + repr(result.facts)
    for part in PARTS:
        assert part not in written(tmp_path / "study") + said, part
    assert "${AUTOPRUNE_PASSWORD:-}" in (tmp_path / "study" / "spec.yaml").read_text()
    assert os.environ["AUTOPRUNE_PASSWORD"] == PASSWORD, "for workers"
    again = StudyFolder.open(tmp_path / "study").spec(host)
    assert again.tracking.uri == asked.tracking.uri
    assert spec_hash(again) == spec_hash(asked)
    # Who looks at it without the password can; who resumes it is told what is missing.
    del os.environ["AUTOPRUNE_PASSWORD"]
    assert len(read_study(tmp_path / "study", host=host).outcome.trials) == 3
    caplog.clear()
    resume(tmp_path / "study", trials=4, host=host)
    assert "is not what the study began with" not in caplog.text


def test_in_no_error_of_a_storage(spec, host, tmp_path, caplog):
    for url in (
        f"nonsense://me:{PASSWORD}@h/db",
        f"sqlite://me:{PASSWORD}@h/db",
        f"sqlite:///x.db?password={PASSWORD}",
    ):
        with pytest.raises(StudyError, match=r"search\.storage cannot be opened") as error:
            search(spec(f"search.storage='{url}'", f"output={len(url)}{url[:6]}".replace(":", "")), host=host)
        for part in PARTS:
            assert part not in str(error.value) + caplog.text + written(tmp_path / f"{len(url)}{url[:6]}"), part
    del os.environ["AUTOPRUNE_PASSWORD"]


def test_what_is_missing_is_told(spec, host, tmp_path):
    with pytest.raises(StudyError):
        search(spec(f"search.storage='sqlite://me:{PASSWORD}@h/db'"), host=host)
    del os.environ["AUTOPRUNE_PASSWORD"]
    with pytest.raises(
        StudyError, match="its password is not kept with a study: set the environment variable AUTOPRUNE_"
    ):
        resume(tmp_path / "study", host=host)


def test_a_placeholder_is_kept_as_it_is(spec, host, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", PASSWORD)
    search(
        spec("search.trials=2", swap=("{enabled: false}", '{enabled: false, uri: "http://me:${SECRET}@h"}')), host=host
    )
    assert "${SECRET}" in (tmp_path / "study" / "spec.yaml").read_text()
    assert not any(part in written(tmp_path / "study") for part in PARTS)
    assert "AUTOPRUNE_PASSWORD" not in os.environ
