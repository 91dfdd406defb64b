"""The notebook among the examples, run in a real Jupyter kernel."""

from __future__ import annotations

import ast
import base64
import io
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "search_spaces" / "examples" / "live_timm.ipynb"
SITE = """\
from autoprune.toolkit.packages import optional

optional("torchvision")
"""
"""timm imports torchvision, which is of another build than torch where the tests run."""


class Run:
    """The notebook, run in a folder of its own; with everything that its cells showed on the way."""

    def __init__(self, folder: Path) -> None:
        self.notebook = nbformat.read(NOTEBOOK, as_version=4)
        self.pictures: list[tuple[int, dict[str, str]]] = []
        """Cell and content, in their order."""
        client = NotebookClient(self.notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
        process = client.process_message

        def noted(msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                self.pictures.append((cell_index, msg["content"]["data"]))
            return process(msg, cell, cell_index)

        client.process_message = noted  # type: ignore[method-assign]
        client.execute()

    def index(self, code: str) -> int:
        """Of the one cell with that code."""
        (found,) = (i for i, c in enumerate(self.notebook.cells) if c.cell_type == "code" and code in c.source)
        return found

    def shown(self, code: str) -> dict[str, str]:
        """The value that the cell with that code ends with, or its display, by kinds of content."""
        (output,) = (o for o in self.notebook.cells[self.index(code)].outputs if "data" in o)
        return dict(output.data)


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.long
@pytest.mark.slow
def test_a_live_timm_model_is_searched_tuned_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(site), os.environ.get("PYTHONPATH", ""))))
    run = Run(work)

    searching = run.index("autoprune.search(")
    progress = [content for index, content in run.pictures if index == searching]
    told = [content["text/plain"] for content in progress]
    before = [text for text in told if "of 12 trials" not in text]
    assert before[0].startswith("getting ready"), "something is seen at once"
    assert any("of 12 trials" in text and text.endswith("left") for text in told)
    assert any('<progress value="' in c["text/html"] and "<caption>front of" in c["text/html"] for c in progress)
    assert run.shown("autoprune.search(")["text/plain"].startswith("resnet-1: done, 12 of 12 trials"), "in one place"

    (result,) = (c for c in run.notebook.cells if c.source == "result")
    assert "SearchResult(resnet-1: 12 trials" in result.outputs[0].data["text/plain"]
    assert "<table>" in result.outputs[0].data["text/html"]
    with Image.open(io.BytesIO(base64.b64decode(run.shown("result.plot()")["image/png"]))) as figure:
        assert min(figure.size) > 300
        assert len(figure.convert("RGB").getcolors(1_000_000) or ()) > 10

    assert run.shown("result.select(")["text/plain"].startswith("FrontPoint(trial=")
    before, after = ast.literal_eval(run.shown("fit(pruned")["text/plain"])
    assert before > 0.5, "repaired, not trained"
    assert after > 0.9
    same, share = ast.literal_eval(run.shown("autoprune.save_pruned(")["text/plain"])
    assert same is True, "what was saved predicts as it did"
    assert 0 < share < 0.7, "of the parameters"
    assert {path.name for path in (work / "tuned").iterdir()} == {"recipe.json", "weights.safetensors"}
    assert run.shown("autoprune.open(")["text/plain"] == result.outputs[0].data["text/plain"]
