"""A toy plugin, installed for the tests of this folder: no component of plugins/ is needed."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.spec import Spec

TOY = Path(__file__).parent / "toy"
sys.path.insert(0, str(TOY))  # test modules import the toy
SPEC = """\
name: toy
model: {use: toy-model}
data: {use: toy-data}
search_space: {ratio: {low: 0.0, high: 0.9}}
scorer: {use: toy-scorer}
strategy: {use: toy-strategy}
evaluators: [{use: toy-share}, {use: toy-distance}]
objectives: {distance: minimize, share: minimize}
search: {sampler: {use: toy-genetic}, trials: 12, ladder: 2}
tracking: {enabled: false}
device: cpu
output: study
"""


@pytest.fixture(autouse=True, scope="module")  # what runs in other folders afterwards does not know it
def _installed_toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The toy as a distribution with an entry point, for this process and those that it starts."""
    site = tmp_path_factory.mktemp("site")
    info = site / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autoprune]\ntoy = toy_plugin\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        python_path = [str(site), str(TOY), os.environ.get("PYTHONPATH")]
        patch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in python_path if entry))
        yield


@pytest.fixture
def host() -> PluginHost:
    """Knows the toy, and what a spec that is silent names: a task and an executor."""
    known = ("toy", "tasks", "executors")
    return PluginHost([e for e in importlib.metadata.entry_points(group="autoprune") if e.name in known])


@pytest.fixture
def spec(tmp_path: Path, host: PluginHost) -> Callable[..., Spec]:
    """A spec for the toy, with overrides, ``spec("search.trials=3")``, or with text in place of other text."""

    def make(*overrides: str, swap: tuple[str, str] = ("", ""), folder: Path = tmp_path) -> Spec:
        path = folder / "spec.yaml"
        path.write_text(SPEC.replace(*swap))
        return load_spec(path, overrides=overrides, host=host)

    return make
