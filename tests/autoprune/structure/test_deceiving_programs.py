"""Exported programs that were made to deceive are refused in one line, and run nothing."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune import load_program, save_program
from autoprune.errors import StructureError
from autoprune.structure.saved.expressions import checked

from .deceiving import (
    ATTACKS,
    Entries,
    Net,
    container,
    edited,
    enumerated,
    first_size,
    honest,
    imported,
    of_program,
    sizes_of,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    return honest(tmp_path_factory.mktemp("honest") / "net.pt2")


def refused(file: Path, message: str) -> None:
    with pytest.raises(StructureError, match=message) as error:
        load_program(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ATTACKS)
def test_no_code_runs(name: str, entries: Entries, tmp_path: Path) -> None:
    bad, marker = dict(entries), tmp_path / "marker"
    ATTACKS[name](bad, marker)
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", r"holds pickled objects|in the old format|it calls|no expression of sizes|is no name")
    assert not marker.exists()


@pytest.mark.parametrize("attack", [imported, enumerated])
def test_no_module_is_imported(
    attack: Callable[[Path, Path], Any], entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, marker = dict(entries), tmp_path / "marker"
    monkeypatch.syspath_prepend(tmp_path)
    attack(tmp_path, marker)(bad, marker)
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", "it takes or returns|are no texts")
    assert not marker.exists()


def test_the_attacks_are_attacks(entries: Entries, tmp_path: Path) -> None:
    """Without our look at it, the size runs code: the tests above could fail."""
    bad, marker = dict(entries), tmp_path / "marker"
    ATTACKS["a size"](bad, marker)
    write(tmp_path / "bad.pt2", bad)
    with pytest.raises(AttributeError):
        torch.export.load(tmp_path / "bad.pt2")
    assert marker.exists()


def test_honest_programs_open(entries: Entries, tmp_path: Path) -> None:
    write(tmp_path / "again.pt2", entries | {"extra/notes.txt": b"mine"})
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(5, 4)
    save_program(net, torch.randn(2, 4), tmp_path / "net.pt2")
    with torch.no_grad():
        assert torch.equal(load_program(tmp_path / "net.pt2")(x), net(x))
        assert load_program(tmp_path / "again.pt2")(x).shape == (5, 2)


ARCHIVES: dict[str, tuple[Callable[[Entries], Any], str]] = {
    "compiled code": (lambda e: e.update({"data/aotinductor/model/a.so": b"\x7fELF"}), "holds compiled code"),
    "a script object": (lambda e: e.update({"data/constants/custom_obj_0": b"x"}), "holds pickled objects"),
    "another entry": (lambda e: e.update({"data/other": b""}), "has an entry of no known kind"),
    "the way out": (lambda e: e.update({"extra/../../x": b""}), "has an entry of no known kind"),
    "no program": (lambda e: e.pop("models/model.json"), "has no models/model.json"),
    "no weight": (lambda e: e.pop("data/weights/weight_0"), "has no data/weights/weight_0"),
    "another order of bytes": (lambda e: e.update(byteorder=b"big"), "another order of bytes"),
    "no JSON": (lambda e: e.update({"models/model.json": b"{"}), "cannot be opened as an exported program"),
    "deep JSON": (lambda e: e.update({"models/model.json": b"[" * 100_000}), "nested too deeply"),
    "a number of JSON": (lambda e: e.update({"models/model.json": b'{"a": NaN}'}), "is no number of JSON"),
    "a long number": (lambda e: e.update({"models/model.json": b'{"a": %s}' % (b"9" * 5000)}), "cannot be opened"),
    "another text": (lambda e: e.update({"models/model.json": b"[]"}), "its text is no program"),
    "a short weight": (lambda e: e.update({"data/weights/weight_0": b"1234"}), "more numbers than are stored"),
    "no numbers": (lambda e: e.update({"data/weights/weight_0": b""}), "more numbers than are stored"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_hold_what_programs_have(name: str, entries: Entries, tmp_path: Path) -> None:
    damage, message = ARCHIVES[name]
    bad = dict(entries)
    damage(bad)
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", message)


def test_nothing_is_unpacked_or_read_twice(entries: Entries, tmp_path: Path) -> None:
    file = tmp_path / "bad.pt2"
    write(file, entries, compression=zipfile.ZIP_DEFLATED)
    refused(file, "is compressed or encrypted")
    write(file, entries)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("m/byteorder", b"little")
    refused(file, "has two entries")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("other/byteorder", b"little")
    refused(file, "has two entries|of no known kind")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("version", b"8.1")
        archive.writestr("serialized_state_dict.pt", b"")
    refused(file, "is in the old format of torch.export")
    file.write_bytes(file.read_bytes()[:-40])
    refused(file, "cannot be opened as an exported program")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt2")
    refused(tmp_path / "pipe.pt2", "is no plain file")
    refused(tmp_path, "cannot be opened as an exported program")


def meta(change: Callable[[Any], None]) -> Callable[[Entries], None]:
    def damage(bad: Entries) -> None:
        edited(
            bad,
            "data/weights/model_weights_config.json",
            lambda data: change(data["config"]["first.weight"]["tensor_meta"]),
        )

    return damage


METAS: dict[str, tuple[Callable[[Entries], None], str]] = {
    "a huge tensor": (
        meta(lambda m: m.update(sizes=[{"as_int": 2**40}, {"as_int": 4}])),
        "more numbers than are stored",
    ),
    "a huge tensor of few": (
        meta(lambda m: m.update(sizes=[{"as_int": 2**40}, {"as_int": 4}], strides=[{"as_int": 0}, {"as_int": 1}])),
        "more numbers than are stored",
    ),
    "a tensor before its storage": (meta(lambda m: m.update(storage_offset={"as_int": -4})), "storage_offset"),
    "backwards": (meta(lambda m: m.update(strides=[{"as_int": -4}, {"as_int": 1}])), "strides"),
    "one stride too few": (meta(lambda m: m.update(strides=[{"as_int": 1}])), "differ in number"),
    "a kind of number": (meta(lambda m: m.update(dtype=99)), "of no known kind"),
    "a device": (meta(lambda m: m.update(device={"type": "meta", "index": None})), "device"),
    "a sparse one": (meta(lambda m: m.update(layout=1)), "layout"),
}


@pytest.mark.parametrize("name", METAS)
def test_tensors_are_within_what_is_stored(name: str, entries: Entries, tmp_path: Path) -> None:
    damage, message = METAS[name]
    bad = dict(entries)
    damage(bad)
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", message)


def operator(target: str) -> Callable[[Any, str], None]:
    return lambda module, _: module["graph"]["nodes"][1].update(target=target)


TEXTS: dict[str, tuple[Callable[[Any, str], None], str]] = {
    "an operator of others": (operator("torch.ops.mine.relu.default"), "it calls 'torch.ops.mine.relu.default', which"),
    "an operator that is none": (operator("torch.ops.aten.save.default"), "it calls"),
    "without bounds": (operator("torch.ops.aten._unsafe_index.Tensor"), "it calls"),
    "a storage": (operator("torch.ops.aten.set_.source_Storage"), "it calls"),
    "Triton": (operator("torch.ops.higher_order.triton_kernel_wrapper_functional"), "it calls"),
    "printing": (operator("torch.ops.higher_order.print"), "it calls"),
    "an extension": (operator("#mine:relu"), "it calls"),
    "a function": (operator("torch.hub.load"), "it calls"),
    "no text": (lambda module, _: module["graph"]["nodes"][1].update(target=["torch"]), "its text is no program"),
    "a huge size": (lambda module, _: first_size(module, "Pow(Integer(9), Pow(Integer(9), Integer(9)))"), "of sizes"),
    "another container": (container("collections.deque", "3"), "it takes or returns 'collections.deque'"),
    "no container": (container("builtins.tuple", '["x"]'), "does not say what it takes and returns"),
    "an object": (
        lambda module, _: module["graph"]["custom_obj_values"].update(a={"name": "a", "class_fqn": "b"}),
        "it holds an object that would be unpickled",
    ),
    "a count": (
        lambda module, _: sizes_of(module)[0]["as_expr"].update(expr_str="Symbol('u99999999', integer=True)"),
        "is no expression of sizes",
    ),
    "a deep one": (lambda module, _: first_size(module, "Add(" * 900 + "1" + ")" * 900), "is no expression of sizes"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_programs_are_of_operators_and_sizes(name: str, entries: Entries, tmp_path: Path) -> None:
    change, message = TEXTS[name]
    bad = dict(entries)
    of_program(change)(bad, tmp_path)
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", message)


def test_a_count_of_sizes_is_bounded(entries: Entries, tmp_path: Path) -> None:
    bad = dict(entries)
    bound = {"min_val": 0, "max_val": 9}
    edited(bad, "models/model.json", lambda data: data["range_constraints"].update(u99999999999=bound))
    write(tmp_path / "bad.pt2", bad)
    refused(tmp_path / "bad.pt2", "is no expression of sizes")


def test_what_nobody_needs_is_not_read(entries: Entries, tmp_path: Path) -> None:
    """Guards would be evaluated; they are left out, as are notes on where an operator came from."""
    bad, marker = dict(entries), tmp_path / "marker"
    code = f"__import__('os').system('touch {marker}')"

    def change(data: Any) -> None:
        data["guards_code"] = [code]
        data["graph_module"]["graph"]["nodes"][0]["metadata"] = {"source_fn_stack": code, "nn_module_stack": code}

    edited(bad, "models/model.json", change)
    write(tmp_path / "bad.pt2", bad)
    with torch.no_grad():
        assert load_program(tmp_path / "bad.pt2")(torch.randn(3, 4)).shape == (3, 2)
    assert not marker.exists()


SYMBOL = "Symbol('s7', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text",
    [
        SYMBOL,
        f"Add(Mul(Integer(2), {SYMBOL}), Integer(-1))",
        f"Pow({SYMBOL}, Integer(2))",
        f"FloorDiv(Add({SYMBOL}, Integer(1)), Integer(2))",
        f"Max(Integer(1), {SYMBOL})",
        f"LessThan({SYMBOL}, Integer(4))",
        "Float('0.5', precision=53)",
        "true",
    ],
)
def test_expressions_of_sizes(text: str) -> None:
    from sympy import sympify
    from torch.utils._sympy.functions import FloorDiv

    assert sympify(checked(text), locals={"FloorDiv": FloorDiv}) == sympify(text, locals={"FloorDiv": FloorDiv})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os')",
        "Symbol('s7').name",
        "Symbol('x')",
        "Symbol('s7', commutative=1)",
        "Symbol('s7')**2",
        "[s7]",
        "s7 if s7 else 1",
        "lambda: 1",
        "Add(*s7)",
        "Pow(Integer(9), s7)",
        f"Pow(Pow({SYMBOL}, 8), 8)",
        "Pow(s7)",
        f"Integer({'9' * 40})",
        f"Max({', '.join(['s7'] * 40)})",
        "Float('nan')",
        "Lambda(s7, s7)",
        "sympify('1')",
        "Integer('1')",
        "s7 = 1",
        "é",
        "1" * 5000,
    ],
)
def test_other_expressions_are_not_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match="is no expression of sizes"):
        checked(text)


def test_what_could_not_be_opened_is_not_saved(tmp_path: Path) -> None:
    @torch.library.custom_op("deceiving::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    double.register_fake(torch.empty_like)

    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.deceiving.double(x)  # type: ignore[no-any-return]

    with pytest.raises(StructureError, match=r"it calls 'torch\.ops\.deceiving\.double\.default'"):
        save_program(Doubling(), torch.ones(2, 3), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_the_text_is_the_programs_own(entries: Entries) -> None:
    """The fixture's program has what the tests change."""
    module = json.loads(entries["models/model.json"])["graph_module"]
    assert sizes_of(module)
    assert module["graph"]["nodes"][1]["target"] == "torch.ops.aten.relu.default"
