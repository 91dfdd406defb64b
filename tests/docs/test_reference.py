"""What can be used is documented: every kind, contract, hook and public name."""

from __future__ import annotations

import inspect

import pytest

from autoprune.plugin.component import Component
from autoprune.plugin.kinds import KINDS, Kind
from tests.docs.pages import DOCS, headings
from tests.docs.reference import PACKAGES, PAGE, hook_names, public, text

GUIDE = DOCS / "plugins"


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "write it again: python -m tests.docs.reference"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented(package: str) -> None:
    """Each has a docstring, and a heading in the reference."""
    names = public(package)
    assert names
    assert not [name for name, found in names.items() if not found.docstring]
    assert {f"`{name}`" for name in names} <= set(headings(PAGE))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.contract.kind)
def test_every_contract_has_a_page(kind: Kind) -> None:
    """Headed by its name, in the table of kinds, and with everything that an author may write."""
    contract = kind.contract
    page = GUIDE / f"{contract.kind}.md"
    assert headings(page)[0].startswith(f"{contract.__name__}:")
    assert f"[{contract.kind}]({page.name})" in (GUIDE / "README.md").read_text(encoding="utf-8")
    told = page.read_text(encoding="utf-8")
    missing = [name for name in members(contract) if f"`{name}(" not in told and f"`{name}`" not in told]
    assert not missing, f"{page.name} does not tell of {', '.join(missing)}"


def members(contract: type[Component]) -> list[str]:
    """Public methods, properties and class variables that the contract itself adds."""
    own = [name for name, value in vars(contract).items() if callable(value) or isinstance(value, property)]
    declared = inspect.get_annotations(contract)
    return sorted(name for name in {*own, *declared} if name[0] != "_" and name not in ("kind", "model_config"))


@pytest.mark.parametrize("hook", hook_names())
def test_every_hook_has_a_heading(hook: str) -> None:
    assert f"`{hook}`" in headings(GUIDE / "observer.md")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.contract.kind)
def test_every_kind_is_in_the_reference(kind: Kind) -> None:
    assert f"Kind: {kind.contract.kind}" in headings(PAGE)
