"""What to say of a model that gives something else in every pass."""

from __future__ import annotations

from torch import fx, nn

from autoprune.errors import StructureError
from autoprune.structure.graph.untraceable import place_of, told

_DROPOUTS = ("dropout", "dropout_", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
_DRAWS = ("rand", "bernoulli", "normal", "multinomial", "poisson", "exponential", "uniform", "cauchy", "geometric")


def random_in_eval(network: nn.Module, graph: fx.GraphModule) -> StructureError:
    """Where it draws numbers, and what helps.

    Args:
        network: Which model.
        graph: Its operators in ``eval()``.
    """
    for node in graph.graph.nodes:
        name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
        if name in _DROPOUTS and True in node.args:
            what, mend = "drops out in eval(), too", "give it training=self.training"
        elif name.startswith(_DRAWS):
            what, mend = "draws numbers", "take their mean, or what is likeliest, where self.training is False"
        else:
            continue
        where = told(place_of(node))
        return _error(network, f"its code {where}{what}; {mend}")
    return _error(network, "nothing in its graph draws numbers: look for numpy or random in its code")


def _error(network: nn.Module, what: str) -> StructureError:
    return StructureError(
        f"{type(network).__name__} is random in eval(), two passes over the same inputs differ, so that no cut can "
        f"be verified: {what}"
    )
