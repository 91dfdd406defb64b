from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from autoprune import DataError
from autoprune.toolkit.packages import optional
from autoprune_sources.huggingface_model import HuggingFace

transformers = optional("transformers")
SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 1]])


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whoever reaches for the network fails."""

    def refuse(*_):
        raise AssertionError("a model source reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def saved(ctx):
    """A classifier as transformers saved it, and its folder ``bert`` beside the spec."""
    torch.manual_seed(3)
    network = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3)).eval()
    network.save_pretrained(ctx.folder / "bert")
    return network


def logits(network):
    with torch.no_grad():
        return network.eval()(input_ids=IDS).logits


@pytest.mark.slow
def test_opens_what_transformers_saved_by_its_own_class(ctx, saved):
    network = HuggingFace(path="bert").load(None, ctx)
    assert type(network) is transformers.BertForSequenceClassification
    assert torch.equal(logits(network), logits(saved))


def test_opens_by_an_auto_class_and_computes_attention_as_told(ctx, saved):
    network = HuggingFace(path="bert", auto="AutoModelForSequenceClassification", attention="eager").load(None, ctx)
    assert network.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(network), logits(saved))
    assert type(HuggingFace(path="bert", auto="AutoModel").load(None, ctx)) is transformers.BertModel


def test_builds_the_architecture_with_random_weights_of_the_seed(ctx, saved):
    first, again = (HuggingFace(path="bert").build(ctx) for _ in range(2))
    other = HuggingFace(path="bert").build(replace(ctx, seed=1))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    first.load_state_dict(saved.state_dict())
    assert torch.equal(logits(first), logits(saved))


def test_args_are_entries_of_the_configuration(ctx, saved):
    network = HuggingFace(path="bert", args={"hidden_act": "relu"}).load(None, ctx)
    assert network.config.hidden_act == "relu"
    assert not torch.equal(logits(network), logits(saved))
    with pytest.raises(DataError, match=r"args: .* no entry 'hidden_sise'; did you mean 'hidden_size'\?"):
        HuggingFace(path="bert", args={"hidden_sise": 8}).load(None, ctx)


def test_weights_of_any_type_are_float32(ctx, saved):
    saved.half().save_pretrained(ctx.folder / "half")
    for network in (HuggingFace(path="half").load(None, ctx), HuggingFace(path="half").build(ctx)):
        assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


def test_generation_goes_by_the_folder_s_own_settings(ctx):
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    network = transformers.GPT2LMHeadModel(config)
    network.generation_config.max_new_tokens = 7
    network.save_pretrained(ctx.folder / "gpt")
    source = HuggingFace(path="gpt")
    assert source.build(ctx).generation_config.max_new_tokens == 7
    assert source.load(None, ctx).generation_config.max_new_tokens == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"path": "bart"}, r"there is no 'bart' in .*; did you mean 'bert'\?"),
        ({"path": "."}, r"there is no 'config.json' in .*"),
        ({"path": "bert", "auto": "AutoModelForSequenceClasification"}, r"did you mean 'AutoModelForSequenceClassifi"),
        (
            {"path": "bert", "auto": "AutoModelForImageClassification"},
            r"bert cannot be opened: ValueError: Unrecognized",
        ),
        (
            {"path": "bert", "auto": "AutoModelForMaskedLM"},
            r"not have the weights of BertForMaskedLM; missing: cls\.\S+, cls\.\S+, cls\.\S+ and \d more: name .*{auto",
        ),
        (
            {"path": "bert", "args": {"num_labels": 5}},
            r"bert does not have the weights of BertForSequenceClassification; wrong shape: classifier\.bias, classifi",
        ),
        ({"path": "empty"}, r"empty has no weights \(model.safetensors\); write them by model.save_pretrained"),
        ({"path": "nameless"}, r"config.json does not say which class saved it: write {auto: AutoModelFor…}"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(ctx, saved, capfd, source, told):
    for name in ("empty", "nameless"):
        shutil.copytree(ctx.folder / "bert", ctx.folder / name)
    (ctx.folder / "empty" / "model.safetensors").unlink()
    config = json.loads((ctx.folder / "nameless" / "config.json").read_text())
    (ctx.folder / "nameless" / "config.json").write_text(json.dumps({**config, "architectures": None}))
    with pytest.raises(DataError, match=told) as caught:
        HuggingFace(**source).load(None, ctx)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_code_in_the_folder_never_runs(ctx, saved):
    file = ctx.folder / "bert" / "config.json"
    told = {"AutoConfig": "mine.MyConfig", "AutoModelForSequenceClassification": "mine.MyModel"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "mine", "auto_map": told}))
    (ctx.folder / "bert" / "mine.py").write_text(f"open({str(ctx.folder / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="cannot be opened"):
        HuggingFace(path="bert", auto="AutoModelForSequenceClassification").load(None, ctx)
    assert not (ctx.folder / "ran").exists()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_never_run(ctx, saved):
    (ctx.folder / "bert" / "model.safetensors").unlink()
    torch.save({"weight": Payload(ctx.folder / "ran")}, ctx.folder / "bert" / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be opened"):
        HuggingFace(path="bert").load(None, ctx)
    assert not (ctx.folder / "ran").exists()
    torch.save(saved.state_dict(), ctx.folder / "bert" / "pytorch_model.bin")
    assert torch.equal(logits(HuggingFace(path="bert").load(None, ctx)), logits(saved))


def test_nothing_is_printed_and_logging_is_as_before(ctx, saved, capfd):
    before = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    HuggingFace(path="bert").load(None, ctx)
    assert capfd.readouterr() == ("", "")
    assert (transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()) == before


def test_a_missing_package_is_told_with_the_command(ctx, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs the package transformers: pip install 'autoprune\[huggingface\]'"):
        HuggingFace(path="bert").build(ctx)


def test_other_than_auto_classes_are_refused_in_the_spec():
    with pytest.raises(ValidationError, match="write one of transformers' Auto classes"):
        HuggingFace(path="bert", auto="BertModel")
