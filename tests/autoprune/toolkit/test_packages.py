from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.errors import DataError
from autoprune.toolkit.packages import optional
from tests.fresh import returned


def test_what_is_installed_is_imported() -> None:
    assert optional("json").loads("[1]") == [1]


def test_what_is_missing_is_told_with_the_command() -> None:
    with pytest.raises(DataError, match=r"^needs the package nowhere: pip install 'autoprune\[nowhere\]'$"):
        optional("nowhere")


def test_what_does_not_import_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brokenpackage.py").write_text("raise RuntimeError('built for\\nanother torch')")
    monkeypatch.syspath_prepend(tmp_path)
    told = r"^the package brokenpackage is installed and cannot be imported: RuntimeError: built for another torch; pip"
    with pytest.raises(DataError, match=told) as caught:
        optional("brokenpackage")
    assert "\n" not in str(caught.value)


def opened() -> list[str]:
    """In a new process: what is made of a package that imports torchvision, of whatever build that is."""
    network = optional("timm").create_model("test_resnet", num_classes=2)
    return [type(network).__name__, optional("transformers").BertConfig.__name__]


@pytest.mark.slow
def test_torchvision_of_another_build_is_no_hindrance() -> None:
    assert returned(opened) == ["ResNet", "BertConfig"]
