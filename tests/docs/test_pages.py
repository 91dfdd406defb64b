"""Every code block of every page runs, or is checked against what it speaks to; see `tests.docs.pages`."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from ruamel.yaml import YAML

from autoprune import load_pruned, search, spec_from_mapping
from autoprune.cli.app import app
from autoprune.host.binding import load_spec
from autoprune.host.plugins import PluginHost
from autoprune.plugin.kinds import KINDS
from tests.docs.pages import BASE, DOCS, GUIDES, LANGUAGES, PAGES, ROOT, Block, blocks, files, headings, named, yaml_of

PYTHON = [page for page in GUIDES if any(block.file is None for block in blocks(page, "python"))]
KITS = [page for page in GUIDES if any(name.startswith("test_") for name in files(page))]


def write(page: Path, folder: Path) -> Path:
    """The files of a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules of a folder can be imported, for a while."""
    sys.path.insert(0, str(folder))
    known = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            if (folder / f"{name}.py").exists():
                del sys.modules[name]


def of(page: Path, block: Block) -> str:
    return f"{named(page)}.md:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_are_of_a_known_language_and_can_be_read(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{of(page, block)}: {block.language or 'no language'}"
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)


def test_python_is_formatted(tmp_path: Path) -> None:
    """As the code is: what is copied from a page passes the same checks."""
    for page in GUIDES:
        for block in blocks(page, "python"):
            (tmp_path / f"{page.stem}_{block.line}.py").write_text(block.text, encoding="utf-8")
    ignored = "D,S,T20,ARG,N,PT011,PTH,B905,INP,E402,F821"
    first_party = 'lint.isort.known-first-party=["autoprune"]'
    ours = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), "--config", first_party]
    for command in (["format", "--check"], ["check", "--ignore", ignored]):
        ruff = [sys.executable, "-m", "ruff", *command, *ours, "."]
        done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{named(page)}.md: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}.md: {link}"


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


@pytest.mark.parametrize("page", [page for page in GUIDES if blocks(page, "yaml")], ids=named)
def test_specs_are_valid(page: Path, tmp_path: Path) -> None:
    """Whole specs as they stand; fragments laid over the page's spec if it has one, else over a small one."""
    write(page, tmp_path)
    whole = BASE
    for block in blocks(page, "yaml"):
        given = yaml_of(block.text)
        if "name" in given:
            whole = given
        path = tmp_path / "checked.yaml"
        with path.open("w", encoding="utf-8") as stream:
            YAML().dump(laid_over(whole, given), stream)
        try:
            load_spec(path)
        except Exception as error:
            raise AssertionError(f"{of(page, block)}: {error}") from error


def laid_over(whole: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
    """A fragment's keys replace the spec's; those of ``search`` one by one."""
    return {**whole, **fragment, "search": {**whole["search"], **fragment.get("search", {})}}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=named)
def test_commands_exist(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program, subcommand and option of every line is there, and specs are valid; nothing runs."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in line.partition(" > ")[0].split(" && "):
                words = shlex.split(command, comments=True)
                if words:
                    check_command(words, where=of(page, block))


def check_command(words: list[str], *, where: str) -> None:
    while "=" in words[0]:  # variables of the environment
        words = words[1:]
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "autoprune":
        parse(arguments, where=where)
        if arguments[0] == "search" and (ROOT / arguments[1]).is_file():
            pairs = itertools.pairwise(arguments)
            load_spec(ROOT / arguments[1], overrides=[value for option, value in pairs if option == "--set"])
    elif program in ("python", "python3") and arguments[0] == "-m":
        module = arguments[1]
        assert module in ("venv", "pytest") or importlib.util.find_spec(module), f"{where}: no module {module}"
    elif program in ("python", "python3"):
        assert (ROOT / arguments[0]).is_file(), f"{where}: no file {arguments[0]}"
    else:
        assert program in ("pip", "pytest", "ruff", "mypy", "lint-imports"), f"{where}: {program}"


def parse(arguments: list[str], *, where: str) -> None:
    """Go down the command line as typer does, up to where a command would run."""
    command, context = typer.main.get_command(app), None
    while True:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                context = command.make_context(arguments[0] if arguments else "", list(arguments), parent=context)
        except Exception as error:
            raise AssertionError(f"{where}: autoprune {shlex.join(arguments)}: {error}") from error
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(command, "commands"):
            assert not rest, f"{where}: {rest}"
            return
        assert rest, f"{where}: {command.name} alone"
        assert rest[0] in command.commands, f"{where}: there is no command {rest[0]}"
        command, arguments = command.commands[rest[0]], rest[1:]


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON, ids=named)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the page's order, in one namespace, beside the page's files."""
    monkeypatch.chdir(write(page, tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names: dict[str, Any] = {"__name__": "__page__"}
    with importable(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        for block in blocks(page, "python"):
            if block.file is None:
                text = "\n" * (block.line - 1) + block.text  # so that a traceback has the page's lines
                exec(compile(text, str(page), "exec"), names)


@pytest.fixture(scope="module")
def kits(quick_python: str, tmp_path_factory: pytest.TempPathFactory) -> Counter[tuple[str, str]]:
    """How many tests of each page's kits passed and failed: all in one process, for torch is slow to load."""
    folder = tmp_path_factory.mktemp("kits")
    for page in KITS:
        write(page, folder / page.stem)
    command = ["-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-W", "error", "--junitxml=told.xml", "."]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [quick_python, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    print(done.stdout)
    return Counter(
        (case.get("classname", "").split(".")[0], "failed" if len(case) else "passed")
        for case in ET.parse(folder / "told.xml").iter("testcase")
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", KITS, ids=named)
def test_examples_pass_their_kits(page: Path, kits: Counter[tuple[str, str]]) -> None:
    assert kits[page.stem, "failed"] == 0
    assert kits[page.stem, "passed"] >= 8


def plugin_of(page: Path) -> str:
    """The one file with a plugin."""
    [name] = [name for name in files(page) if name.endswith(".py") and not name.startswith("test_")]
    return name


@pytest.mark.parametrize("page", sorted(DOCS.glob("plugins/*.md")), ids=named)
def test_each_plugin_page_has_one_plugin(page: Path, tmp_path: Path) -> None:
    """A file that the host loads; it brings one component, of the page's kind, which a spec on the page names."""
    name = plugin_of(page)
    host = PluginHost(())
    host.load_file(write(page, tmp_path) / name)
    [plugin] = host.plugins
    assert plugin.error is None
    [component] = plugin.components
    assert page.stem in (component.kind, "README")
    named_by = [block.text for block in blocks(page, "yaml") if f"./{name}" in block.text]
    assert any(f"use: {component.name}" in text for text in named_by)


@pytest.mark.slow
def test_examples_work_together(tmp_path: Path, quick_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One search with the plugins of all pages: what no kit of one kind tells."""
    monkeypatch.setattr("sys.executable", quick_python)
    pages = [DOCS / "plugins" / f"{kind.contract.kind}.md" for kind in KINDS]
    for page in pages:
        write(page, tmp_path)
    spec = {
        **BASE,
        "plugins": [f"./{plugin_of(page)}" for page in pages],
        "scorer": {"use": "fisher", "samples": 32},
        "strategy": {"use": "two-rounds", "recover": {"use": "output-bias", "samples": 64}},
        "transforms": [{"use": "half-precision"}],
        "evaluators": [{"use": "class-recall"}, {"use": "size"}],
        "objectives": {"recall_3": "maximize", "size_mb": "minimize"},
        "search": {"sampler": {"use": "near-front"}, "executor": {"use": "prefixed", "prefix": ["env"]}, "trials": 3},
        "exporters": [{"use": "arrays"}],
        "observers": [{"use": "csv-log"}],
        "output": "study",
    }
    result = search(spec_from_mapping(spec, folder=tmp_path))
    assert [trial.state for trial in result.outcome.trials] == ["complete"] * 3
    assert {"half-precision.hidden", "half-precision.linear"} <= set(result.outcome.trials[-1].knobs)
    assert Path(result.facts["csv"]).read_text(encoding="utf-8").splitlines()[0] == "number,state,recall_3,size_mb"
    assert result.models
    for folder in result.models.values():
        state = load_pruned(folder, trust=True).state_dict()
        with np.load(folder / "exports" / "arrays" / "weights.npz") as arrays:
            assert {name: arrays[name].shape for name in arrays} == {n: tuple(t.shape) for n, t in state.items()}


def test_the_picture_shows_the_way() -> None:
    """It is an image that can be read, in light and dark, and names the stages in their order."""
    file = DOCS / "architecture.svg"
    text = "".join(ET.parse(file).getroot().itertext())
    at = [text.index(stage) for stage in ("Spec", "Problem", "Candidate", "Model", "Metrics", "Front", "Observers")]
    assert at == sorted(at)
    assert "prefers-color-scheme: dark" in text
