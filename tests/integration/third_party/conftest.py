"""The third party's package, installed for this process and those that it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ACME = Path(__file__).with_name("acme")


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(ACME, site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "acme_pruning-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pruning\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[autoprune]\nacme = acme_pruning\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        entries = [str(site), os.environ.get("PYTHONPATH")]
        patch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in entries if entry))
        yield
