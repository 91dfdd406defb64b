"""Every promise of SECURITY.md is shown by tests that are there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
TESTS = re.findall(r"^- `(tests/[\w/]+\.py)::(\w+)`$", TEXT, re.M)


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_the_test_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_every_promise_has_one() -> None:
    promises = TEXT.partition("## What is promised")[2].partition("## What is not promised")[0]
    bold = re.findall(r"^\*\*.*?(?=^\*\*|\Z)", promises, re.M | re.S)
    assert len(bold) == 5
    assert all("- `tests/" in promise for promise in bold)
