"""Copies of functions, by what they give."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from autoprune.toolkit.copies import code_of, duplicate, rebound


def test_what_uses_nothing_of_the_copied_stays_itself():
    function = lambda x: x + 1  # noqa: E731
    assert rebound(function, {}) is function
    given = {"a": [function]}
    assert rebound(given, {}) is given


def test_defaults_keywords_and_empty_variables_are_kept():
    old, new = [1], [2]
    memo = {id(old): new}

    def function(a, b=old, *, c=old, d=4):
        return a, b, c, d, later if a else None

    function.note = old
    found = rebound(function, memo)
    assert found(0) == (0, [2], [2], 4, None)
    assert found.note is new
    assert (found.__name__, found.__qualname__, found.__doc__) == ("function", function.__qualname__, None)
    assert rebound(function, memo) is found, "once"
    later = 5
    assert function(1)[4] == later


def test_methods_and_partials():
    class Holder:
        def get(self, *given):
            return self, given

    old, new = Holder(), Holder()
    memo = {id(old): new}
    assert rebound(old.get, memo)()[0] is new
    found = rebound(partial(old.get, old, 3), memo)
    assert found(4) == (new, (new, 3, 4))
    assert rebound((1, [old]), memo) == (1, [new])


def test_a_whole_network_is_copied_with_its_functions():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    network.extra = lambda x: network[0](x)
    network[1].register_forward_hook(lambda module, args, output: output + network.extra(args[0]))
    assert code_of(network) == ["extra"]
    assert code_of(network[1]) == ["_forward_hooks"]
    new, x = duplicate(network), torch.randn(2, 3)
    before = new(x)
    torch.testing.assert_close(before, network(x))
    with torch.no_grad():
        network[0].weight.zero_()
    assert torch.equal(new(x), before)
