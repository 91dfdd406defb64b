"""All rules."""

from __future__ import annotations

from autoprune.structure.graph.rules import (
    attention,
    contractions,
    layers,
    norms,
    parts,
    places,
    products,
    recurrent,
    reductions,
    spatial,
    spectra,
    spread,
)
from autoprune.structure.graph.rules.registry import Rules, rules_of

_MODULES = (
    layers,
    norms,
    spatial,
    spread,
    parts,
    places,
    reductions,
    contractions,
    attention,
    recurrent,
    spectra,
    products,
)
RULES: Rules = {name: rule for module in _MODULES for name, rule in rules_of(module).items()}
