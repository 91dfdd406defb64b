"""What a plugin must not get wrong: found when it is registered, not when it runs."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.errors import PluginError
from autoprune.plugin import hooks
from autoprune.plugin.component import Component
from autoprune.plugin.contracts import Evaluator
from autoprune.plugin.kinds import CONTRACTS
from autoprune.plugin.values import Metric
from autoprune.spec import near


class BrokenComponentError(PluginError):
    """A component class breaks its contract."""

    def __init__(self, component: type[Component], message: str) -> None:
        super().__init__(message)
        self.component = component


def check_component(component: type[Component]) -> None:
    """Refuse what would fail later, and more obscurely.

    Raises:
        PluginError: It is no component, or an unfinished one.
    """
    if not (isinstance(component, type) and issubclass(component, CONTRACTS)):
        contracts = ", ".join(contract.__name__ for contract in CONTRACTS)
        raise PluginError(f"{component!r} is no component class; derive it from one of {contracts}")
    title = component.__name__
    if not isinstance(vars(component).get("name"), str):
        raise BrokenComponentError(
            component, f'{title} has no name of its own; give it name: ClassVar[str] = "…", what a spec says after use'
        )
    if missing := sorted(getattr(component, "__abstractmethods__", ())):
        raise BrokenComponentError(component, f"{title} does not implement {', '.join(missing)}")
    if "use" in component.model_fields:
        raise BrokenComponentError(component, f"{title} has an option called use, which names the component in a spec")
    if issubclass(component, Evaluator):
        metrics = getattr(component, "metrics", ())
        told = metrics or component.declares is not Evaluator.declares
        if isinstance(metrics, Metric):
            raise BrokenComponentError(component, f"{title} has a Metric for metrics; write a tuple: metrics = (…,)")
        if not told or not all(isinstance(metric, Metric) for metric in metrics):
            how = "give it metrics: ClassVar[tuple[Metric, ...]], or declares()"
            raise BrokenComponentError(component, f"{title} has no metrics; {how}")
    component.model_rebuild()  # raises where a field's type is not importable


def check_hooks(
    plugin: object, implemented: Sequence[str], *, components: tuple[type[Component], ...] | None = None
) -> None:
    """Find hooks that would never be called.

    pluggy's ``check_pending`` looks at all plugins together and so cannot tell whose fault it is.

    Args:
        plugin: The plugin.
        implemented: Names of the hooks that it implements.
        components: What a file brings without a hook; None for what needs one.

    Raises:
        PluginError: A hook is misspelt or not marked, or the plugin brings nothing.
    """
    known = {name for name in vars(hooks) if name.startswith(f"{hooks.PROJECT}_")}
    for hook in implemented:
        if hook not in known:
            raise PluginError(f"autoprune has no hook {hook!r}{near(hook, known)}")
    unmarked = [hook for hook in known & set(dir(plugin)) if hook not in implemented]
    if unmarked or not (implemented or components):
        none = "it implements no hook"
        if components is not None:
            none = "it defines no component class with a name, and implements no hook"
        raise PluginError(f"{', '.join(sorted(unmarked)) or none}: mark every hook with @autoprune.hookimpl")


def cause(error: BaseException) -> str:
    """An exception in one line."""
    text = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
    return " ".join(text.split())
