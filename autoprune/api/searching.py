"""Searching from Python: a spec's keys are keywords, and what a spec can only name may be handed over as it is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.handover import Handover
from autoprune.api.keywords import as_keywords, duration, spec_of
from autoprune.api.progress import shown
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Component
from autoprune.spec import Search, Spec, near

if TYPE_CHECKING:
    from autoprune.study import SearchResult


def search(
    spec: Spec | str | Path | Mapping[str, Any] | None = None,
    *,
    model: Any = None,
    data: Any = None,
    task: Any = None,
    search_space: Any = None,
    scorer: Any = None,
    strategy: Any = None,
    transforms: Any = None,
    evaluators: Any = None,
    objectives: Mapping[str, str] | None = None,
    constraints: Mapping[str, str] | None = None,
    trials: int | None = None,
    timeout: str | float | timedelta | None = None,
    seed: int | None = None,
    workers: int | None = None,
    sampler: Any = None,
    search: Mapping[str, Any] | None = None,
    exporters: Any = None,
    observers: Sequence[Any] = (),
    tracking: Mapping[str, Any] | None = None,
    device: str | None = None,
    output: str | Path | None = None,
    name: str | None = None,
    plugins: Sequence[str | Path] | None = None,
    progress: bool = True,
    host: PluginHost | None = None,
    **unknown: Any,
) -> SearchResult:
    """Search for pruned models.

    Every key of a spec is a keyword, laid over ``spec`` if there is one. Wherever a spec names a component by
    ``{"use": …}``, its name alone will do, or a component, or its class. Ctrl-C ends the search in good order; `resume`
    goes on from there.

    Example:
        >>> result = autoprune.search(
        ...     model=network,
        ...     data={"train": train_loader, "validation": validation_loader, "test": test_loader},
        ...     evaluators=["accuracy", "macs"],
        ...     objectives={"accuracy": "maximize", "macs": "minimize"},
        ...     trials=40,
        ... )

    Args:
        spec: A spec, its file, or a mapping that says the same.
        model: The trained network, which is left as it is; a model source; or a path: of a saved pruned model, of a
            ``save_pretrained`` folder, of an exported program.
        data: ``{"train": …, "validation": …, "test": …}``: torch datasets, loaders, tuples of tensors or iterables of
            batches (tuples, mappings), beside the options of the data source ``live``; a `Data`; or a data source.
        task: What right means; classification if left out.
        search_space: Which units may go: a section of the spec, or granularities alone.
        scorer: What ranks units; one or several.
        strategy: What makes a pruned model of ratios; one or several.
        transforms: What replaces modules after the cut.
        evaluators: What is measured; functions ``(outputs, targets)`` of all samples, too. Accuracy (or the loss) and
            MACs if left out.
        objectives: Metrics to ``"minimize"`` or ``"maximize"``.
        constraints: Bounds on metrics, as ``">= 0.8"``.
        trials: Trials in all.
        timeout: Begin no further trial after so long: seconds, or text such as ``"30m"``.
        seed: Seeds everything.
        workers: Trials side by side; 1 with objects of this process.
        sampler: What proposes candidates.
        search: Further keys of that section, such as ``{"ladder": 5}``.
        exporters: What writes the front's models in other forms.
        observers: Components, or objects that implement observer hooks.
        tracking: A section of the spec, such as ``{"enabled": False}``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        output: The study's folder; ``runs/<name>-<number>`` if left out.
        name: Names the study; of the model's class if left out.
        plugins: Python files with components.
        progress: Whether to show it: in a notebook's cell, on a terminal, or as lines on stderr.
        host: Knows the components; the installed plugins if None.
        unknown: Refused, with a near name.

    Raises:
        SpecError: Something is wrong with what was asked, or it does not fit the model or the data.
        DataError: Model or data cannot be read.
        StructureError: The model cannot be traced, or none of its units can be cut.
        StudyError: The study cannot be created.
        NoFeasibleTrialError: No trial was feasible in the end.
    """
    keys = {
        "name": name,
        "plugins": plugins,
        "model": model,
        "data": data,
        "task": task,
        "search_space": search_space,
        "scorer": scorer,
        "strategy": strategy,
        "transforms": transforms,
        "evaluators": evaluators,
        "objectives": objectives,
        "constraints": constraints,
        "search": search,
        "exporters": exporters,
        "observers": [each for each in observers if _is_named(each)] or None,
        "tracking": tracking,
        "device": device,
        "output": output,
    }
    short = {"sampler": sampler, "trials": trials, "timeout": duration(timeout), "seed": seed, "workers": workers}
    host = host or PluginHost()
    with shown(progress) as watch, as_keywords():
        handover = Handover(host)
        for key in unknown:
            handover.note((key,), f"unknown keyword{_hint(key)}")
        handover.check()
        checked = spec_of(spec, keys, short, host=host, handover=handover)
        handover.check(checked)
        from autoprune.study import search as run  # torch and optuna: progress is shown by now

        hooks = [each for each in observers if not _is_named(each)]
        return run(checked, host=host, observers=[*hooks, watch], tell=watch.tell)


def resume(
    study: str | Path,
    *,
    trials: int | None = None,
    model: Any = None,
    data: Any = None,
    components: Sequence[Any] = (),
    observers: Sequence[object] = (),
    progress: bool = True,
    host: PluginHost | None = None,
) -> SearchResult:
    """Continue a study that was interrupted or killed, or that is to get more trials.

    Trials that were running are run again under their numbers; none is lost and none is repeated.

    Args:
        study: The study's folder.
        trials: New number of trials in all; the number asked before if None.
        model: The network as it was handed to `search`, if one was.
        data: The splits that were handed to `search`, if they were.
        components: Functions and component classes that were.
        observers: Objects that implement observer hooks.
        progress: Whether to show it.
        host: Knows the components; the installed plugins if None.

    Raises:
        StudyError: The folder holds no study, or another session works on it.
        SpecError: What is handed over is not what the study names.
        DataError: The study is of live objects that are missing, or of a network with other weights.
        NoFeasibleTrialError: No trial was feasible in the end.
    """
    host = host or PluginHost()
    with shown(progress) as watch, as_keywords():
        from autoprune.study import resume as run
        from autoprune.study.folder import StudyFolder

        handover = Handover(host)
        handover.take(components)
        said = handover.written({"model": model, "data": data})
        handover.check()
        spec = StudyFolder.open(Path(study)).spec(host)
        for key, reference in said.items():
            for option, value in reference.items():
                known = getattr(spec, key).get(option)
                if option != "weights" and known != value:  # of these the source tells
                    handover.note((key,), f"{option} is {known!r} in the study, not {value!r}")
        handover.check(spec)
        return run(Path(study), trials=trials, host=host, observers=[*observers, watch], tell=watch.tell)


def open(  # noqa: A001  autoprune.open, as tarfile.open
    study: str | Path, *, components: Sequence[Any] = (), host: PluginHost | None = None
) -> SearchResult:
    """A study as it stands, be it ended, killed or at work in another process: nothing is run or loaded.

    Args:
        study: The study's folder.
        components: Component classes that were handed to `search`.
        host: Knows the components; the installed plugins if None.

    Raises:
        StudyError: The folder holds no study, or one that has not begun.
    """
    from autoprune.study import read_study

    host = host or PluginHost()
    with as_keywords():
        handover = Handover(host)
        handover.take(components)
        handover.check()
        return read_study(study, host=host)


def _is_named(observer: Any) -> bool:
    """Whether the spec is to name it."""
    is_class = isinstance(observer, type) and issubclass(observer, Component)
    return is_class or isinstance(observer, str | Mapping | Component)


def _hint(key: str) -> str:
    if key in Search.model_fields:
        return f"; write search={{{key!r}: …}}"
    keywords = inspect.signature(search).parameters.values()
    return near(key, [each.name for each in keywords if each.kind is each.KEYWORD_ONLY])
