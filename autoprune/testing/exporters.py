"""Kit for exporters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autoprune.plugin import Exporter
from autoprune.testing.components import BenchConformance

if TYPE_CHECKING:
    from torch import nn

    from autoprune.testing.bench import Bench

_RATIOS = (0.0, 0.9)


class ExporterConformance(BenchConformance):
    """Tests of an exporter. Those that export are left out where it refuses to run."""

    contract = Exporter

    @pytest.fixture
    def runs(self, component: Exporter) -> None:
        """What it needs is installed here."""
        if reason := component.refuses():
            pytest.skip(reason)

    def test_refuses_with_a_reason(self, component: Exporter) -> None:
        """Where it cannot run, it says what is missing; else it says nothing."""
        reason = component.refuses()
        assert reason is None or reason.strip(), "a refusal needs a reason; None is none"

    @pytest.mark.usefixtures("runs")
    @pytest.mark.parametrize("ratio", _RATIOS)
    def test_writes_what_it_says(self, component: Exporter, bench: Bench, ratio: float, tmp_path: Path) -> None:
        """Of models cut little and much: what it names is in its folder, and holds something."""
        folder = tmp_path / "exported"
        artifact = bench.export(component, folder, network=_cut(bench, ratio))
        assert Path(artifact.path).is_dir() or Path(artifact.path).stat().st_size, f"{artifact.path.name} is empty"

    @pytest.mark.usefixtures("runs")
    def test_leaves_the_model_as_it_was(self, component: Exporter, bench: Bench, tmp_path: Path) -> None:
        """Weights, modes, gradients, hooks and modules: other exporters get it, too."""
        network = _cut(bench, 0.5)
        modules = {name: id(module) for name, module in network.named_modules()}
        bench.export(component, tmp_path / "exported", network=network)
        assert modules == {name: id(module) for name, module in network.named_modules()}, "modules were replaced"

    @pytest.mark.usefixtures("runs")
    def test_writes_into_its_folder_alone(
        self, component: Exporter, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing beside it, and nothing where the search was started."""
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        bench.export(component, tmp_path / "there" / "exported", network=_cut(bench, 0.5))
        strewn = [path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "there" / "exported")]
        strewn = [path for path in strewn if path not in (tmp_path / "here", tmp_path / "there")]
        assert not strewn, f"wrote {strewn[0].relative_to(tmp_path)}, which is not in the folder that it was given"

    @pytest.mark.usefixtures("runs")
    def test_writes_again(self, component: Exporter, bench: Bench, tmp_path: Path) -> None:
        """As for each model of a front: the second time the same files."""
        network, folders = _cut(bench, 0.5), (tmp_path / "first", tmp_path / "again")
        for folder in folders:
            bench.export(component, folder, network=network)
        first, again = (sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in folders)
        assert again == first, f"wrote {_names(first)} at first, and then {_names(again)}"


def _cut(bench: Bench, ratio: float) -> nn.Module:
    return bench.cut(bench.uniform(ratio))


def _names(paths: list[Path]) -> str:
    return ", ".join(path.as_posix() for path in paths) or "nothing"
