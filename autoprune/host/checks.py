"""What a plugin must not get wrong: found when it is registered, not when it runs."""

from __future__ import annotations

from autoprune.errors import PluginError
from autoprune.plugin.component import Component
from autoprune.plugin.contracts import Evaluator
from autoprune.plugin.kinds import CONTRACTS
from autoprune.plugin.values import Metric


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
        if not told or not all(isinstance(metric, Metric) for metric in metrics):
            how = "give it metrics: ClassVar[tuple[Metric, ...]], or declares()"
            raise BrokenComponentError(component, f"{title} has no metrics; {how}")
    component.model_rebuild()  # raises where a field's type is not importable


def cause(error: BaseException) -> str:
    """An exception in one line."""
    text = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
    return " ".join(text.split())
