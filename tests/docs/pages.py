"""The pages of the documentation and their code blocks.

How a block is tested is seen from the block alone:

- its first line is a comment with a file's name (``# my_plugin.py``): it is written as that file beside the page's
  others, and not run by itself. A ``test_….py`` is run by pytest, all pages' in one process;
- ``python``: run, in the page's order, in a folder that holds the page's files;
- ``yaml`` with a ``name``: a spec, which has to be valid. Without: a fragment, laid over `BASE` (and the page's spec);
- ``sh``: every line a command that exists, with its options (of pip: what is installed is named by the page);
- ``toml`` and ``json``: can be read;
- ``text``: what a command prints, for the reader alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = tuple(sorted(page for page in DOCS.rglob("*.md") if "measured" not in page.parts))
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES)
LANGUAGES = ("python", "yaml", "sh", "toml", "json", "text")

BASE: dict[str, Any] = {
    "name": "digits",
    "model": {"use": "digits-cnn"},
    "data": {"use": "digits"},
    "evaluators": [{"use": "accuracy"}, {"use": "params"}],
    "objectives": {"accuracy": "maximize", "params": "minimize"},
    "search": {"trials": 2},
    "tracking": {"enabled": False},
}
"""The spec that a fragment is laid over."""

_FILE = re.compile(r"# (\S+\.(?:py|yaml|toml))\n")


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    language: str
    text: str
    line: int
    """Of its first line of code."""

    @property
    def file(self) -> str | None:
        """The file that it is written as."""
        found = _FILE.match(self.text)
        return found[1] if found else None


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The code blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    every = [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in found]
    return [block for block in every if language in (None, block.language)]


def files(page: Path) -> dict[str, str]:
    """Name to text of the files that a page writes."""
    return {block.file: block.text for block in blocks(page) if block.file is not None}


def named(page: Path) -> str:
    """A page as a test is called: ``docs/plugins/scorer``."""
    return page.relative_to(ROOT).with_suffix("").as_posix()


def yaml_of(text: str) -> Any:
    """The data of a block."""
    return YAML(typ="safe").load(text)


def headings(page: Path) -> list[str]:
    """Headings of a page without their marks, outside of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"^#+ (.+)$", text, re.M)
