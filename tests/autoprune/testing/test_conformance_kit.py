"""The kit passes good components and catches broken ones, whatever is broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow
TOYS = Path(__file__).with_name("toy_components.py")


def cases():
    spec = importlib.util.spec_from_file_location("toy_components", TOYS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module.CASES


CASES = cases()
GOOD = [name for name, caught in CASES.items() if not caught]
BROKEN = [(name, test) for name, caught in CASES.items() for test in caught]


@pytest.fixture(scope="module")
def ran(quick_python, tmp_path_factory):
    """Test class to its tests' outcome: None, or what the failure says.

    One pytest runs the whole kit on good components, and on broken ones what must catch them.
    """
    report = tmp_path_factory.mktemp("kit") / "report.xml"
    tests = [*(f"{TOYS}::{name}" for name in GOOD), *(f"{TOYS}::{name}::{test}" for name, test in BROKEN)]
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command = [quick_python, "-m", "pytest", *tests, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=300)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    outcomes = {}
    for test in ElementTree.parse(report).getroot().iter("testcase"):
        failures = [f.get("message", "") + (f.text or "") for f in test if f.tag in ("failure", "error")]
        of_class = outcomes.setdefault(test.get("classname").rpartition(".")[2], {})
        name = test.get("name").partition("[")[0]
        of_class[name] = "\n".join([*filter(None, [of_class.get(name)]), *failures]) or None
    return outcomes


@pytest.mark.parametrize("name", GOOD)
def test_good_components_pass(ran, name):
    assert {test: failure for test, failure in ran[name].items() if failure is not None} == {}


@pytest.mark.parametrize(("name", "test"), BROKEN)
def test_broken_components_are_caught(ran, name, test):
    assert ran[name][test] is not None, f"{name} passed {test}"
    assert CASES[name][test] in ran[name][test]


def test_every_test_of_the_kit_catches_something(ran):
    tests = {test for outcomes in ran.values() for test in outcomes}
    assert tests == {test for _, test in BROKEN}
