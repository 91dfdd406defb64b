"""A model source for tests: builds a net of `nets.CASES` with random weights."""

from __future__ import annotations

from torch import nn

from autoprune.plugin import Data, ModelSource, SourceContext, hookimpl

from .nets import CASES


class Toy(ModelSource):
    name = "toy-net"
    case: str

    def build(self, ctx: SourceContext) -> nn.Module:
        return CASES[self.case].make()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)


@hookimpl
def autoprune_components() -> list[type[ModelSource]]:
    return [Toy]
