"""The plugin host: finds plugins, keeps the broken ones apart, and looks components up by name."""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pluggy
from pydantic_core import PydanticCustomError

from autoprune.errors import PluginError
from autoprune.plugin import hookspecs
from autoprune.plugin.components import CONTRACTS, Component

ENTRY_POINT_GROUP = "autoprune"
C = TypeVar("C", bound=Component)
log = logging.getLogger("autoprune")


@dataclass(frozen=True)
class Plugin:
    """One entry point (or object registered by hand) and what became of it."""

    name: str
    distribution: str
    version: str
    components: tuple[type[Component], ...] = ()
    error: str | None = None
    """Why it could not be used; None for a healthy plugin."""


class PluginHost:
    """Loads every plugin once, each isolated from the faults of the others."""

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        """Load the installed plugins (or just ``entry_points``).

        Raises:
            PluginError: Two plugins bring a component of one kind and name.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: list[Plugin] = []
        self._components: dict[tuple[str, str], tuple[type[Component], Plugin]] = {}
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
        for entry_point in sorted(found, key=lambda e: e.name):
            distribution = entry_point.dist
            name, version = (distribution.name, distribution.version) if distribution else ("unknown", "?")
            try:
                plugin = entry_point.load()
            except Exception as error:  # whatever a foreign module raises while it is imported
                self._plugins.append(Plugin(entry_point.name, name, version, error=f"{type(error).__name__}: {error}"))
                continue
            self.register(plugin, name=entry_point.name, distribution=name, version=version)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin found, the broken ones too."""
        return tuple(self._plugins)

    @property
    def hook(self) -> Any:
        """The hooks; calling one calls every implementation."""
        return self._manager.hook

    def register(self, plugin: object, *, name: str, distribution: str = "registered by hand", version: str = "") -> None:
        """Add a plugin object or module.

        Raises:
            PluginError: It brings a component that another plugin has brought already.
        """
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
            bring = getattr(plugin, "autoprune_components", None)
            components = tuple(bring()) if bring is not None else ()
            for component in components:
                _check(component)
        except Exception as error:  # a plugin's own fault must not take the others down
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self._plugins.append(Plugin(name, distribution, version, error=f"{type(error).__name__}: {error}"))
            return
        record = Plugin(name, distribution, version, components)
        self._plugins.append(record)
        for component in components:
            key = (component.kind, component.name)
            if key in self._components:
                other = self._components[key][1]
                raise PluginError(
                    f"two plugins bring the {component.kind} {component.name!r}: {other.name} of {other.distribution} "
                    f"{other.version} and {name} of {distribution} {version}; uninstall one of them"
                )
            self._components[key] = (component, record)

    def components(self, contract: type[C]) -> dict[str, type[C]]:
        """Every component of that kind, by name."""
        found = {name: cls for (_, name), (cls, _) in sorted(self._components.items()) if issubclass(cls, contract)}
        return found  # type: ignore[return-value]

    def __call__(self, contract: type[C], name: object) -> type[C]:
        """Look a component up: the validation context of `Component`.

        Raises:
            PydanticCustomError: There is none of that name; the message suggests near ones.
        """
        known = self.components(contract)
        if isinstance(name, str) and name in known:
            return known[name]
        raise PydanticCustomError(
            "unknown_component",
            "no {kind} is called {name}{hint}",
            {"kind": contract.kind, "name": repr(name), "hint": near(str(name), known)},
        )

    def provider(self, component: type[Component]) -> Plugin:
        """The plugin that brought a component."""
        return self._components[component.kind, component.name][1]


def near(name: str, known: Iterable[str]) -> str:
    """`` — did you mean …?`` or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def _check(component: type[Component]) -> None:
    if not (isinstance(component, type) and issubclass(component, CONTRACTS)):
        raise PluginError(f"{component!r} is not a component class")
    if not isinstance(getattr(component, "name", None), str):
        raise PluginError(f"{component.__name__} has no name")
    missing = sorted(getattr(component, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{component.__name__} does not implement {', '.join(missing)}")
