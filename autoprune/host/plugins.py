"""The plugin host: finds plugins, keeps the broken ones apart, and looks components up by name."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pluggy
from pydantic_core import PydanticCustomError

from autoprune.errors import PluginError
from autoprune.host.checks import cause, check_component, check_hooks
from autoprune.host.files import PluginFile, line_of, read_file
from autoprune.plugin import hooks
from autoprune.plugin.component import Component
from autoprune.spec import near

ENTRY_POINT_GROUP = "autoprune"
C = TypeVar("C", bound=Component)
log = logging.getLogger("autoprune")


@dataclass(frozen=True)
class Plugin:
    """One entry point, file or object registered by hand, and what became of it."""

    name: str
    distribution: str
    version: str
    components: tuple[type[Component], ...] = ()
    file: Path | None = None
    """The single file that it came from, if any."""
    error: str | None = None
    """What is wrong with it; None for a healthy plugin. One that merely clashes with another still brings the rest."""

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.name} ({self.file})"
        return " ".join(f"{self.name} ({self.distribution} {self.version}".split()) + ")"


class PluginHost:
    """Loads every plugin once, each isolated from the faults of the others.

    Where two plugins bring a component of one kind and name, neither of the two is used: what a spec means must not
    hang on the order of loading.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        """Load the installed plugins (or just ``entry_points``)."""
        self.objects: dict[str, Any] = {}
        """Python objects that a spec calls ``live``, by name; of this process alone."""
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        self._plugins: list[Plugin] = []
        self._files: dict[PluginFile, Plugin] = {}
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
                self._add(Plugin(entry_point.name, name, version, error=cause(error)))
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
            self._add(Plugin(name, distribution, version, error=cause(error)))
            return
        self._add(Plugin(name, distribution, version, components))

    def load_file(self, path: str | Path) -> Plugin:
        """Bring the components of a single Python file; once, however often it is asked for.

        Those are what its hook ``autoprune_components`` brings or, without one, every component class that is defined
        in it and has a name. A copy with the same content counts as the same file.

        Raises:
            PluginError: It cannot be read or run, brings nothing, or breaks the contract; says in which line.
        """
        file = read_file(path)
        if known := self._files.get(file):
            return known
        if file.path in {other.path for other in self._files}:
            raise PluginError(f"{file.path}: has changed since it was loaded; begin anew")
        module = file.load()
        try:
            components = self._take(module, name=file.module, default=file.defined(module))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(f"{file.path}:{line_of(error, module)}: {cause(error)}") from error
        plugin = Plugin(file.path.stem, "", "", components, file.path)
        self._files[file] = plugin
        self._add(plugin)
        return plugin

    @property
    def files(self) -> tuple[PluginFile, ...]:
        """The single files that were loaded, with their content: what workers, and saved models, need besides."""
        return tuple(self._files)

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
                    raise PluginError(cause(error)) from error
                taken.append(observer)
            yield
        finally:
            for observer in taken:
                self._manager.unregister(observer)

    def _add(self, plugin: Plugin) -> None:
        self._plugins.append(plugin)
        if plugin.error is not None:
            log.warning("plugin %s is left out: %s", plugin, plugin.error)
        for component in plugin.components:
            self._brought.setdefault((component.kind, component.name), []).append((component, plugin))
            if clash := self._clash(component.kind, component.name):
                log.warning("%s", clash)

    def _take(
        self, plugin: object, *, name: str, default: tuple[type[Component], ...] | None = None
    ) -> tuple[type[Component], ...]:
        """Register a plugin with pluggy, unless there is anything wrong with it.

        Args:
            plugin: The plugin.
            name: pluggy's name for it.
            default: The components of a file, unless a hook of it brings some; None for what needs a hook.
        """
        if self._manager.is_registered(plugin):
            raise PluginError("is registered already, under another name")
        try:
            self._manager.register(plugin, name=name)
            callers = self._manager.get_hookcallers(plugin) or []
            impls = [(caller.name, impl) for caller in callers for impl in caller.get_hookimpls()]
            implemented = [name for name, impl in impls if impl.plugin is plugin and not impl.optionalhook]
            check_hooks(plugin, implemented, components=default)
            components = self._components_of(plugin, default or ())
        except BaseException:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise
        return components

    def _components_of(self, plugin: object, default: tuple[type[Component], ...]) -> tuple[type[Component], ...]:
        """Call a plugin's registration hook, and only this plugin's; the default if it has none.

        Raises:
            PluginError: One of its components breaks the contract.
        """
        calls = [impl.function for impl in self.hook.autoprune_components.get_hookimpls() if impl.plugin is plugin]
        components = tuple(component for call in calls for component in call()) if calls else default
        for component in components:
            check_component(component)
        names = [f"{component.kind} {component.name!r}" for component in components]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PluginError(f"brings the {', '.join(twice)} more than once")
        return components

    def _clash(self, kind: str, name: str) -> str | None:
        brought = self._brought.get((kind, name), [])
        if len(brought) < 2:
            return None
        plugins = " and ".join(str(plugin) for _, plugin in brought)
        way = "give one of them another name" if any(each.file for _, each in brought) else "uninstall all but one"
        return f"several plugins bring the {kind} {name!r}: {plugins}; {way}"

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
            own = f"; your own is one class, see docs/plugins/{contract.kind}.md"
            way = "" if kinds or "did you mean" in hint else own
            message = f"no {contract.kind} is called {name!r}{hint}{left_out}{way}"
        raise PydanticCustomError("unknown_component", "{message}", {"message": message})

    def provider(self, component: type[Component]) -> Plugin:
        """The plugin that brought a component."""
        brought = self._brought[component.kind, component.name]
        return next(plugin for cls, plugin in brought if cls is component)
