"""The network that a strategy works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class Pruned:
    """A copy of the dense network, and which of its units stayed.

    Strategies get one from ``ctx.start()``, with nothing cut, train ``network`` as they like and cut it by
    ``ctx.cut(pruned, kept)``, again and again. Units are numbered as in the dense network all along.
    """

    def __init__(self, network: nn.Module | Callable[[], nn.Module], kept: Mapping[str, Tensor] | None = None) -> None:
        """A network that stands for a cut.

        Args:
            network: It, or what makes it when it is first asked for.
            kept: Per group the units that stayed, as ``PruneContext.select`` gives them: sorted indices, int64; of
                weights and kernels a bool for each of the U units, False where it was set to zero. A group left out is
                whole.
        """
        from torch import nn

        self._network: nn.Module | None = None
        if isinstance(network, nn.Module):
            self._network = network
        else:
            self._make = network
        self.kept: Mapping[str, Tensor] = dict(kept or {})

    @property
    def network(self) -> nn.Module:
        """The bare network, in ``eval()`` when handed over; to be changed in place."""
        if self._network is None:
            self._network = self._make()
        return self._network

    @property
    def untouched(self) -> bool:
        """Whether nobody has asked for the network yet, so that it is as it was made."""
        return self._network is None

    def __repr__(self) -> str:
        return f"Pruned({', '.join(f'{name}: {len(units)}' for name, units in self.kept.items()) or 'whole'})"
