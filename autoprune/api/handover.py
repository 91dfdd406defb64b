"""From Python objects to what a spec says of them: references to components, and objects that the host keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from autoprune.api.live import Brought, importable_name, is_metric, is_split, metric_name
from autoprune.errors import Mistake, PluginError, SpecError
from autoprune.host.plugins import PluginHost
from autoprune.host.slots import SLOTS, chooses, slot_field
from autoprune.plugin import Component, Data, DataSource, Evaluator, ModelSource
from autoprune.plugin.kinds import CONTRACTS, Kind
from autoprune.spec import Spec
from autoprune.spec.annotations import flat, is_list
from autoprune.spec.document import KeyPath
from autoprune.structure.saved.recipe import RECIPE_FILE
from autoprune.toolkit.files import near

LIVE = "live"
"""What a spec calls an object of this process."""
WHERE = "autoprune"
"""Stands in front of a mistake in what Python gave, in the place of a file."""
_WRAPPED = {"OptimizedModule": "network._orig_mod"} | dict.fromkeys(
    ("DataParallel", "DistributedDataParallel"), "network.module"
)
"""Classes that run another network, and where that is."""
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Handover:
    """Writes a spec of what was given in Python; objects, and classes that nobody has registered, go to the host."""

    def __init__(self, host: PluginHost) -> None:
        """Nothing was handed over yet; what the host has from an earlier search is forgotten."""
        self._host = host
        self._metrics: dict[str, Any] = {}
        self._mistakes: list[Mistake] = []
        self._kept: list[str] = []
        """What no other process could have, in words."""
        host.objects.clear()
        host.objects["metrics"] = self._metrics

    def note(self, path: KeyPath, message: str) -> None:
        """Something is wrong there."""
        self._mistakes.append(Mistake(path, message, WHERE, 0, 0))

    def check(self, spec: Spec | None = None) -> None:
        """Tell what is wrong.

        Args:
            spec: Once it is known: whether its trials run where the objects are.

        Raises:
            SpecError: Anything is.
        """
        if spec is not None and self._kept:
            what = f"{' and '.join(self._kept)} {'is' if len(self._kept) == 1 else 'are'} of this process alone"
            if spec.search.workers > 1:
                way = "write workers=1, or name it by what others can load, such as {'use': 'factory'}"
                self.note(("search", "workers"), f"{what}, and worker processes are others; {way}")
            elif spec.search.executor["use"] != "local":
                self.note(("search", "executor"), f"{what}, where trials have to run: {{'use': 'local'}}")
        if self._mistakes:
            raise SpecError(self._mistakes)

    def written(self, given: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a spec says, of its keys as Python gives them; what is None is left out.

        Args:
            given: Keys of a spec to references, names, components, their classes or objects.
            beside: Keys of the spec that these are laid over.
        """
        said = {key: value for key, value in given.items() if value is not None}
        directions = _directions({**(beside or {}), **said})
        for slot, kind in SLOTS.items():
            *sections, key = slot
            for section in sections:
                said[section] = dict(said[section]) if isinstance(said.get(section), Mapping) else said.get(section)
            holder = said[sections[0]] if sections else said
            if isinstance(holder, dict) and holder.get(key) is not None:
                holder[key] = self._slot(kind, holder[key], slot, directions)
        if isinstance(said.get("search_space"), str | list | tuple):
            said["search_space"] = {"use": said["search_space"]}
        return {key: self._plain(value) for key, value in said.items() if value is not None}

    def take(self, components: Sequence[Any]) -> None:
        """Keep functions and component classes that a stored spec names."""
        for number, each in enumerate(components):
            if is_metric(each):
                self._keep_metric(each, ("components", number))
            else:
                self._reference(Component, each, ("components", number))

    def model(self, given: Any) -> Any:
        """A model source, of an object, a reference, a name or a path."""
        from torch import nn

        from autoprune.toolkit.fingerprints import of_weights

        if isinstance(given, nn.Module):
            if (inside := _WRAPPED.get(type(given).__name__)) is not None:
                self.note(("model",), f"is a {type(given).__name__}; hand over the network in it, model={inside}")
            self._host.objects["model"] = given
            self._kept.append("the model")
            return {"use": LIVE, "weights": of_weights(given)}
        if isinstance(given, str | Path):
            return self._at(ModelSource, given)
        if callable(given) and not _is_class(given):
            way = f"hand over the network itself, or write {{'use': 'factory', 'target': '{importable_name(given)}'}}"
            self.note(("model",), f"is what makes a network; {way}")
            return {}
        return self._reference(ModelSource, given, ("model",))

    def data(self, given: Any) -> Any:
        """A data source, of splits with options, a `Data`, a reference, a name or a path."""
        if isinstance(given, Data):
            self._host.objects["data"] = given
            self._kept.append("the data")
            return {"use": LIVE}
        if isinstance(given, Mapping) and "use" not in given:
            options = self._host.components(DataSource)[LIVE].model_fields  # type: ignore[type-abstract]
            splits = {name: each for name, each in given.items() if name not in options or is_split(name, each)}
            self._host.objects["data"] = splits
            self._kept.append("the data")
            return {"use": LIVE, **{name: each for name, each in given.items() if name not in splits}}
        if isinstance(given, str | Path):
            return self._at(DataSource, given)
        if isinstance(given, Mapping | Component) or _is_class(given):
            return self._reference(DataSource, given, ("data",))
        how = "data={'train': …, 'validation': …, 'test': …}; what is left out is carved from 'train'"
        self.note(("data",), f"is of type {type(given).__name__}; say which split it is: {how}")
        return {}

    def _slot(self, kind: Kind, given: Any, path: KeyPath, directions: Mapping[str, str]) -> Any:
        if kind.contract is ModelSource:
            return self.model(given)
        if kind.contract is DataSource:
            return self.data(given)
        if chooses(given):
            return {**given, "choose": self._slot(kind, given["choose"], (*path, "choose"), directions)}
        if not isinstance(given, list | tuple):
            if not all(map(is_list, flat(slot_field(kind.slot or ()).annotation))):
                return self._one(kind, given, path, directions)
            given = [given]
        return [self._one(kind, each, (*path, number), directions) for number, each in enumerate(given)]

    def _one(self, kind: Kind, given: Any, path: KeyPath, directions: Mapping[str, str]) -> Any:
        if kind.contract is Evaluator:
            if is_metric(given):
                return self._metric({"target": given}, path, directions)
            if isinstance(given, Mapping) and is_metric(given.get("target")):
                return self._metric(given, path, directions)
        return self._reference(kind.contract, given, path)

    def _reference(self, contract: type[Component], given: Any, path: KeyPath) -> Any:
        if isinstance(given, str):
            return {"use": given}
        if isinstance(given, Mapping):
            return given
        if isinstance(given, Component) or _is_class(given):
            return self._plain(given)
        what = "component" if contract is Component else contract.kind
        self.note(path, f"is of type {type(given).__name__}; name a {what} by {{'use': …}}, or hand one over")
        return {}

    def _metric(self, given: Mapping[str, Any], path: KeyPath, directions: Mapping[str, str]) -> dict[str, Any]:
        """A function's reference; its objective says which way is better, unless it does so itself."""
        function = given["target"]
        name = self._keep_metric(function, path)
        called = "_".join(filter(None, (given.get("called") or name, given.get("label"))))
        direction = given.get("direction") or directions.get(called)
        higher = getattr(function, "higher_is_better", None)
        if direction is None and higher is not None:
            direction = "maximize" if higher else "minimize"
        if direction is None and name.isidentifier():
            way = f"say so in the objectives, or write {{'target': {name}, 'direction': 'maximize'}}"
            self.note(path, f"which way is {called} better? {way}")
        return {"use": "metric", **given, "target": f"{LIVE}:{name}", "direction": direction}

    def _keep_metric(self, function: Any, path: KeyPath) -> str:
        name = metric_name(function)
        if not name.isidentifier():
            self.note(path, f"is called {name!r}; a metric takes a name: def f1(outputs, targets): …")
        elif self._metrics.setdefault(name, function) is not function:
            self.note(path, f"is the second metric called {name!r}; rename one of them")
        self._kept.append(f"the metric {name}")
        return name

    def _plain(self, value: Any) -> Any:
        """Without components, tensors and paths: what JSON can say."""
        if isinstance(value, Component):
            self._register(type(value))
            for _, option in value:
                self._plain(option)  # for the classes in it
            return value.reference()
        if _is_class(value):
            self._register(value)
            return {"use": value.name}
        if isinstance(value, Mapping):
            return {str(key): self._plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(each) for each in value]
        if isinstance(value, Path):
            return str(value)
        return value.tolist() if hasattr(value, "tolist") and not isinstance(value, BaseModel) else value

    def _register(self, component: type[Component]) -> None:
        """Have the host know a class.

        Raises:
            PluginError: It breaks its contract, or another one has its name.
        """
        name = vars(component).get("name", "")
        contracts = [contract for contract in CONTRACTS if issubclass(component, contract)]
        if any(self._host.components(contract).get(name) is component for contract in contracts):
            if self._host.provider(component).distribution == Brought.distribution:
                self._kept.append(f"the {component.kind} {name}")
            return
        self._host.register(Brought(component), name=component.__qualname__, distribution=Brought.distribution)
        if error := self._host.plugins[-1].error:
            raise PluginError(f"{component.__qualname__}: {error}")
        self._kept.append(f"the {component.kind} {name}")

    def _at(self, contract: type[Component], given: str | Path) -> dict[str, Any]:
        """A component of that name, or the one that reads such a file or calls such a function."""
        text, path = str(given), Path(given).expanduser().absolute()
        known = self._host.components(contract)
        if text in known:
            return {"use": text}
        if _TARGET.fullmatch(text):
            return {"use": "factory", "target": text}
        signs = {"pruned": path / RECIPE_FILE, "huggingface": path / "config.json"} if contract is ModelSource else {}
        reader = {".pt2": "exported"} if contract is ModelSource else {".npz": "npz"}
        for name, sign in signs.items():
            if sign.is_file():
                return {"use": name, "path": str(path)}
        if path.suffix in reader:
            return {"use": reader[path.suffix], "path": str(path)}
        what = f"is {text!r}, which no {contract.kind} source is called and none reads by itself"
        self.note((contract.kind,), f"{what}{near(text, known)}; options go into a mapping: {{'use': …, 'path': …}}")
        return {}


def _is_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Component)


def _directions(said: Mapping[str, Any]) -> dict[str, str]:
    """Which way metrics are better, as far as objectives or bounds tell."""
    found: dict[str, str] = {}
    constraints, objectives = said.get("constraints"), said.get("objectives")
    for name, bound in constraints.items() if isinstance(constraints, Mapping) else ():
        found[name] = "maximize" if str(bound).lstrip().startswith(">") else "minimize"
    return found | (dict(objectives) if isinstance(objectives, Mapping) else {})
