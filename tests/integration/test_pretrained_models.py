"""Pruned models of transformers keep their class: they generate, and ``save_pretrained`` saves them or refuses to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import autoprune
from autoprune.plugin import SourceContext
from autoprune.structure import read_recipe
from autoprune_sources.pruned import Pruned
from tests.fresh import returned

from . import pretrained
from .pretrained import CASES, TALKERS, Prepared, evenly, found, predictions, words, write

pytestmark = pytest.mark.slow


Preparing = Callable[[str], Prepared]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Preparing:
    """A model by its name, made once."""
    folder = tmp_path_factory.mktemp("models")
    return functools.cache(lambda name: Prepared.of(name, folder))


def half(_: Any) -> float:
    return 0.5


def neurons(group: Any) -> float:
    return 0.5 if group.units in (48, 128) else 1


def uneven(group: Any) -> float:
    return 0.5 if ".0." in group.name else 0.75


def _same(a: Any, b: Any) -> bool:
    return all(torch.allclose(torch.tensor(x), torch.tensor(y), atol=2e-4) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_what_is_cut_equals_the_masked_network(name: str, prepared: Preparing, tmp_path: Path) -> None:
    """Outputs that nobody asks for (caches of a type that torch does not know) are no hindrance, and cost no units."""
    made = prepared(name)
    case, network, structure = made.case, made.network, made.structure
    assert structure.form == "modules"
    least = structure.costs({group.name: group.units - 1 for group in structure.groups if group.granularity != "block"})
    assert least.params < 0.1 * structure.dense_costs.params
    kept = evenly(structure, uneven, [0, 2])
    assert _same(predictions(case, structure.cut(network, kept)), predictions(case, structure.masked(network, kept)))


@pytest.mark.parametrize("name", TALKERS)
@pytest.mark.parametrize("blocks", [None, [1, 2], [0, 2]], ids=str)
def test_what_is_cut_goes_on_from_its_cache(name: str, blocks: list[int] | None, prepared: Preparing) -> None:
    case, small = prepared(name).case, prepared(name).cut(evenly(prepared(name).structure, half, blocks))
    assert words(case, small, use_cache=True) == words(case, small, use_cache=False)
    ids = case.inputs()["input_ids"][:1]
    options: dict[str, Any] = {"input_ids": ids}
    if "decoder_input_ids" in case.takes:
        options = {"encoder_outputs": small.get_encoder()(input_ids=ids)}  # type: ignore[operator]
    key = "decoder_input_ids" if "decoder_input_ids" in case.takes else "input_ids"
    with torch.no_grad():
        whole = small(**{**options, key: ids}).logits
        first = small(**{**options, key: ids[:, :5]}, use_cache=True)
        rest = small(**{**options, key: ids[:, 5:]}, past_key_values=first.past_key_values, use_cache=True).logits
    torch.testing.assert_close(rest, whole[:, 5:], atol=2e-4, rtol=0)


def test_a_program_of_it_says_what_it_says(prepared: Preparing, tmp_path: Path) -> None:
    """Of a class of transformers nothing is in it, nor of its caches."""
    case, small = prepared("gpt2").case, prepared("gpt2").cut(evenly(prepared("gpt2").structure, uneven))
    autoprune.save_program(small, case.inputs(), tmp_path / "gpt2.pt2")
    program = autoprune.load_program(tmp_path / "gpt2.pt2")
    assert _same(predictions(case, program), predictions(case, small))
    with torch.no_grad():
        assert list(program(**case.inputs(2))) == ["logits"]


EVEN = {
    "bert": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    "distilbert": {"dim": 16, "n_heads": 2, "hidden_dim": 24},
    "roberta": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    "gpt2": {"n_embd": 16, "n_head": 2},
    "opt": {"hidden_size": 16, "num_attention_heads": 2, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "llama": {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24},
    "bart": {
        "d_model": 16,
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 24 for side in ("encoder", "decoder")},
    },
    "vit": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    "clip": {
        f"{side}_config.{key}": size
        for side in ("text", "vision")
        for key, size in {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}.items()
    },
}
"""What half of everything makes of the configuration."""


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("name", EVEN)
def test_even_sizes_are_told_by_the_configuration(name: str, prepared: Preparing, tmp_path: Path) -> None:
    made = prepared(name)
    case, network = made.case, made.network
    small = made.write(evenly(made.structure, half), tmp_path)
    elsewhere = name in ("bert", "gpt2")  # where transformers is imported anew
    told = returned(pretrained.opened, name, tmp_path) if elsewhere else pretrained.opened(name, tmp_path)
    assert told["class"] == type(network).__name__
    assert _same(told["predictions"], predictions(case, small))
    assert _same(told["again"], predictions(case, small))
    before = network.config.to_dict()  # type: ignore[operator,union-attr]
    assert {path: _at(told["config"], path) for path in EVEN[name]} == EVEN[name]
    assert told["config"].keys() == before.keys()
    if name in TALKERS:
        assert told["cached"] == told["plain"] == told["again cached"] == words(case, small)
        assert told["tied"] == (network.get_output_embeddings().weight is network.get_input_embeddings().weight)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "bart", "vit"])
def test_fewer_blocks_are_told_by_the_configuration(name: str, prepared: Preparing, tmp_path: Path) -> None:
    made = prepared(name)
    case = made.case
    small = made.write(evenly(made.structure, neurons, [1, 2]), tmp_path)
    told = pretrained.opened(name, tmp_path)
    assert _same(told["predictions"], predictions(case, small))
    assert _same(told["again"], predictions(case, small))
    layers = {"gpt2": "n_layer", "bart": "decoder_layers"}.get(name, "num_hidden_layers")
    assert told["config"][layers] == 2
    if name in TALKERS:
        assert told["cached"] == told["plain"] == told["again cached"] == words(case, small)


@pytest.mark.parametrize(
    ("name", "share", "reason"),
    [
        ("bert", uneven, r"layers that were alike differ: \S+ is \S+, \S+ in the blocks of bert\.encoder\.layer"),
        ("gpt2", uneven, r"layers that were alike differ: .* in the blocks of transformer\.h"),
        ("bert", lambda g: 0.75 if g.units == 32 else 1, r"no configuration of BertForSequenceClassification has its"),
        ("t5", lambda g: 0.75 if g.units == 32 else 1, "a network of the configuration that has its sizes pre"),
    ],
)  # fmt: skip
def test_a_configuration_that_would_lie_is_not_written(
    name: str, share: Any, reason: str, prepared: Preparing, tmp_path: Path
) -> None:
    made = prepared(name)
    case = made.case
    small = made.write(evenly(made.structure, share), tmp_path)
    told = pretrained.opened(name, tmp_path)
    assert _same(told["predictions"], predictions(case, small)), "load_pruned opens it all the same"
    assert not told["written"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(told["refused"])
    assert "\n" not in told["refused"]
    assert "autoprune.save_pruned(network, folder) saves it, and autoprune.load_pruned(folder)" in told["refused"]
    opened = autoprune.load_pruned(tmp_path / "pruned")
    autoprune.save_pruned(opened, tmp_path / "kept")
    assert _same(predictions(case, autoprune.load_pruned(tmp_path / "kept")), predictions(case, small))


def test_a_model_that_is_pruned_again_adds_to_the_configuration(prepared: Preparing, tmp_path: Path) -> None:
    made = prepared("llama")
    made.write(evenly(made.structure, neurons), tmp_path)
    (tmp_path / "pruned").rename(tmp_path / "first")
    source = Pruned(path=Path("first"))
    first = source.build(SourceContext(tmp_path, tmp_path / "cache", seed=0))
    structure = found(made.case, first)
    kept = evenly(structure, lambda group: 0.75 if group.units == 32 else 1, [0, 2])
    second = write(made.case, first, structure, kept, tmp_path, source=source)
    told = read_recipe(tmp_path / "pruned").pretrained
    assert told is not None
    assert told.config == {"intermediate_size": 24, "hidden_size": 24, "num_hidden_layers": 2}
    opened = pretrained.opened("llama", tmp_path)
    assert _same(opened["predictions"], predictions(made.case, second))
    assert _same(opened["again"], predictions(made.case, second))
