"""The plugin host: finds plugins, keeps the broken ones apart, and looks components up by name."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pluggy
from pydantic_core import PydanticCustomError

from autoprune.errors import PluginError
from autoprune.plugin import hooks
from autoprune.plugin.contracts import CONTRACTS, Component, Evaluator
from autoprune.plugin.values import Metric
from autoprune.spec import near

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
    """What is wrong with it; None for a healthy plugin. One that merely clashes with another still brings the rest."""

    def __str__(self) -> str:
        return " ".join(f"{self.name} ({self.distribution} {self.version}".split()) + ")"


class PluginHost:
    """Loads every plugin once, each isolated from the faults of the others.

    Where two plugins bring a component of one kind and name, neither of the two is used: what a spec means must not
    hang on the order of loading.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        """Load the installed plugins (or just ``entry_points``)."""
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        self._plugins: list[Plugin] = []
        self._brought: dict[tuple[str, str], list[tuple[type[Component], Plugin]]] = {}
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
        for entry_point in sorted(found, key=lambda e: (e.name, e.value)):
            distribution = entry_point.dist
            name, version = (distribution.name, distribution.version) if distribution else ("unknown", "")
            try:
                plugin = entry_point.load()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  a foreign module may raise anything, SystemExit too
                self._add(Plugin(entry_point.name, name, version, error=_cause(error)))
            else:
                self.register(plugin, name=entry_point.name, distribution=name, version=version)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin found, the broken ones too."""
        return tuple(self._with_clashes(plugin) for plugin in self._plugins)

    @property
    def hook(self) -> Any:
        """The hooks; calling one calls every implementation."""
        return self._manager.hook

    def register(
        self, plugin: object, *, name: str, distribution: str = "registered by hand", version: str = ""
    ) -> None:
        """Add a plugin object or module; what is wrong with it is told by `plugins`."""
        try:
            components = self._take(plugin, name=f"{len(self._plugins)} {name}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  a plugin's own fault must not take the others down
            self._add(Plugin(name, distribution, version, error=_cause(error)))
            return
        record = Plugin(name, distribution, version, components)
        self._add(record)
        for component in components:
            self._brought.setdefault((component.kind, component.name), []).append((component, record))
            if clash := self._clash(component.kind, component.name):
                log.warning("%s", clash)

    @contextmanager
    def observed(self, observers: Iterable[object]) -> Iterator[None]:
        """Call the hooks of those objects, too, for a while.

        Raises:
            PluginError: One of them implements no hook, or one that does not exist.
        """
        taken: list[object] = []
        try:
            for observer in observers:
                try:
                    self._take(observer, name=f"observer {len(taken)}")
                except pluggy.PluginValidationError as error:
                    raise PluginError(_cause(error)) from error
                taken.append(observer)
            yield
        finally:
            for observer in taken:
                self._manager.unregister(observer)

    def _add(self, plugin: Plugin) -> None:
        self._plugins.append(plugin)
        if plugin.error is not None:
            log.warning("plugin %s is left out: %s", plugin, plugin.error)

    def _take(self, plugin: object, *, name: str) -> tuple[type[Component], ...]:
        """Register a plugin with pluggy, unless there is anything wrong with it."""
        if self._manager.is_registered(plugin):
            raise PluginError("is registered already, under another name")
        try:
            self._manager.register(plugin, name=name)
            self._check_hooks(plugin)
            components = self._components_of(plugin)
        except BaseException:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise
        return components

    def _check_hooks(self, plugin: object) -> None:
        """Find hooks that would never be called.

        pluggy's ``check_pending`` looks at all plugins together and so cannot tell whose fault it is.

        Raises:
            PluginError: A hook is misspelt or not marked.
        """
        known = {name for name in vars(hooks) if name.startswith(f"{hooks.PROJECT}_")}
        callers = self._manager.get_hookcallers(plugin) or []
        required = [
            caller.name
            for caller in callers
            for impl in caller.get_hookimpls()
            if impl.plugin is plugin and not impl.optionalhook
        ]
        for hook in required:
            if hook not in known:
                raise PluginError(f"autoprune has no hook {hook!r}{near(hook, known)}")
        unmarked = [hook for hook in known & set(dir(plugin)) if hook not in required]
        if unmarked or not required:
            which = ", ".join(sorted(unmarked)) or "it implements no hook"
            raise PluginError(f"{which}: mark every hook with @autoprune.hookimpl")

    def _components_of(self, plugin: object) -> tuple[type[Component], ...]:
        """Call a plugin's registration hook, and only this plugin's.

        Raises:
            PluginError: One of its components breaks the contract.
        """
        calls = [impl.function for impl in self.hook.autoprune_components.get_hookimpls() if impl.plugin is plugin]
        components = tuple(component for call in calls for component in call())
        for component in components:
            _check(component)
        names = [f"{component.kind} {component.name!r}" for component in components]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PluginError(f"brings the {', '.join(twice)} more than once")
        return components

    def _clash(self, kind: str, name: str) -> str | None:
        brought = self._brought.get((kind, name), [])
        if len(brought) < 2:
            return None
        plugins = " and ".join(str(plugin) for _, plugin in brought)
        return f"several plugins bring the {kind} {name!r}: {plugins}; uninstall all but one"

    def _with_clashes(self, plugin: Plugin) -> Plugin:
        clashes = [clash for each in plugin.components if (clash := self._clash(each.kind, each.name))]
        return replace(plugin, error="; ".join(clashes)) if clashes else plugin

    def components(self, contract: type[C]) -> dict[str, type[C]]:
        """Every component of that kind, by name."""
        found: dict[str, type[C]] = {}
        for (_, name), brought in sorted(self._brought.items()):
            if len(brought) == 1 and issubclass(brought[0][0], contract):
                found[name] = brought[0][0]
        return found

    def __call__(self, contract: type[C], name: object) -> type[C]:
        """Look a component up: the validation context of `Component`.

        Raises:
            PydanticCustomError: There is none of that name; the message suggests near ones.
        """
        known = self.components(contract)
        if isinstance(name, str) and name in known:
            return known[name]
        kinds = sorted(kind for kind, other in self._brought if other == name and kind != contract.kind)
        message = self._clash(contract.kind, str(name))
        if message is None:
            hint = f"; {name!r} is of kind {kinds[0]}" if kinds else near(str(name), known)
            broken = [plugin for plugin in self._plugins if plugin.error is not None]
            left_out = "".join(f"; plugin {plugin} is left out: {plugin.error}" for plugin in broken)
            message = f"no {contract.kind} is called {name!r}{hint}{left_out}"
        raise PydanticCustomError("unknown_component", "{message}", {"message": message})

    def provider(self, component: type[Component]) -> Plugin:
        """The plugin that brought a component."""
        brought = self._brought[component.kind, component.name]
        return next(plugin for cls, plugin in brought if cls is component)


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
    return " ".join(text.split())


def _check(component: type[Component]) -> None:
    """Refuse what would fail later, and more obscurely.

    Raises:
        PluginError: It is no component, or an unfinished one.
    """
    if not (isinstance(component, type) and issubclass(component, CONTRACTS)):
        contracts = ", ".join(contract.__name__ for contract in CONTRACTS)
        raise PluginError(f"{component!r} is no component class; derive it from one of {contracts}")
    title = component.__name__
    if not isinstance(vars(component).get("name"), str):
        raise PluginError(
            f'{title} has no name of its own; give it name: ClassVar[str] = "…", what a spec says after use'
        )
    if missing := sorted(getattr(component, "__abstractmethods__", ())):
        raise PluginError(f"{title} does not implement {', '.join(missing)}")
    if "use" in component.model_fields:
        raise PluginError(f"{title} has an option called use, which names the component in a spec")
    if issubclass(component, Evaluator):
        metrics = getattr(component, "metrics", ())
        if not metrics or not all(isinstance(metric, Metric) for metric in metrics):
            raise PluginError(f"{title} has no metrics; give it metrics: ClassVar[tuple[Metric, ...]]")
    component.model_rebuild()  # raises where a field's type is not importable
