"""The text of an exported program, checked before PyTorch reads it.

PyTorch's reader (``torch/_export/serde/serialize.py``) evaluates symbolic expressions and guards, looks operators up as
attributes of modules, imports what the specs of inputs and outputs name, and writes names into code that is run. So a
text has to stand in a field that is known, and to be what belongs there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch._export.serde import schema
from torch._export.serde.serialize import _dict_to_dataclass
from torch._export.serde.union import _Union

from autoprune.structure.saved.allowed_operators import is_allowed
from autoprune.structure.saved.archive import TENSOR_NAME
from autoprune.structure.saved.expressions import SYMBOL, checked
from autoprune.toolkit.files import json_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,999}")
_DICTS = ("builtins.dict", "collections.OrderedDict", "torch.fx.immutable_collections.immutable_dict")
_CONTAINERS = ("builtins.tuple", "builtins.list", "torch.fx.immutable_collections.immutable_list", *_DICTS)
_VERIFIERS = ("", "ATEN", "TRAINING")
_UNUSED: dict[str, Any] = {"metadata": {}, "guards_code": [], "treespec_namedtuple_fields": {}}
"""Fields that nobody here needs, some of which PyTorch would evaluate."""
_DEEPEST = 50
_LARGEST = 2**63
_WORDS = ("Infinity", "-Infinity", "NaN")


def program_of(data: Any) -> schema.ExportedProgram:
    """A program's text as PyTorch's reader takes it.

    Raises:
        ValueError: It is none, or not of operators and expressions that may be read.
    """
    try:
        program = _dict_to_dataclass(schema.ExportedProgram, data)  # type: ignore[no-untyped-call]
    except (AssertionError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"its text is no program ({type(error).__name__})") from error
    _check(program, "program", 0)
    version = program.schema_version.major
    if version != schema.SCHEMA_VERSION[0]:
        raise ValueError(f"it is of schema {version}; this PyTorch reads {schema.SCHEMA_VERSION[0]}")
    specs = [entry.signature.in_spec for entry in program.graph_module.module_call_graph if entry.signature]
    if not specs or not all(map(_has_plain_keywords, specs)):
        raise ValueError("its inputs have names that no argument can have")
    assert isinstance(program, schema.ExportedProgram)  # noqa: S101  just made
    return program


def _check(value: Any, field: str, depth: int) -> None:
    """Check what stands in a field, and in it.

    Raises:
        ValueError: It may not stand there.
    """
    if depth > _DEEPEST * 4:
        raise ValueError("its text is nested too deeply")
    if isinstance(value, _Union):
        _check(value.value, str(value.type), depth + 1)
    elif dataclasses.is_dataclass(value):
        _check_fields(value, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, field, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            _KEYS.get(field, _name)(key)
            _check(each, field, depth + 1)
    else:
        _check_leaf(value, field)


def _check_leaf(value: Any, field: str) -> None:
    if field in _OBJECTS:
        raise ValueError("it holds an object that would be unpickled")
    if isinstance(value, str):
        if field not in _TEXTS:
            raise ValueError(f"a text stands where none belongs: {field} {_shown(value)}")
        _TEXTS[field](value)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"a number has too many digits: {field}")


def _check_fields(value: Any, depth: int) -> None:
    if isinstance(value, schema.CustomObjArgument | schema.InputToCustomObjSpec):
        raise ValueError("it holds an object that would be unpickled")
    for each in dataclasses.fields(value):
        if each.name in _UNUSED:
            setattr(value, each.name, type(_UNUSED[each.name])())
        elif isinstance(value, schema.SymExpr) and each.name == "expr_str":
            if not isinstance(value.expr_str, str):
                raise ValueError("an expression of sizes is no text")
            value.expr_str = checked(value.expr_str)
        elif isinstance(value, schema.Node) and each.name == "target" and not isinstance(value.target, str):
            raise ValueError("an operator is no text")
        else:
            _check(getattr(value, each.name), each.name, depth)


def _shown(text: str) -> str:
    return ascii(text[:100])


def _name(text: str) -> None:
    if text and not _NAME.fullmatch(text):
        raise ValueError(f"{_shown(text)} is no name")


def _tensor(text: str) -> None:
    if text and not re.fullmatch(TENSOR_NAME, text):
        raise ValueError(f"{_shown(text)} is no name of a tensor")


def _operator(text: str) -> None:
    if not is_allowed(text):
        raise ValueError(
            f"it calls {_shown(text)}, which is none of PyTorch's operators on tensors; export the model without it"
        )


def _plain(text: str) -> None:
    if len(text) > 1000 or not text.isprintable():
        raise ValueError(f"{_shown(text)} is no plain text")


def _word(text: str) -> None:
    if text not in _WORDS:
        raise ValueError(f"{_shown(text)} is no number")


def _verifier(text: str) -> None:
    if text not in _VERIFIERS:
        raise ValueError(f"{_shown(text)} is no dialect")


def _device(text: str) -> None:
    if text not in ("cpu", "cuda", "mps", "xpu", "meta"):
        raise ValueError(f"{_shown(text)} is no device")


def _symbol(text: str) -> None:
    if not SYMBOL.fullmatch(text):
        checked(text)
        if text.startswith(("u", "zuf")):
            raise ValueError(f"{_shown(text)} is no size")


def _tree(text: str) -> None:
    """The containers of inputs or outputs."""
    if len(text) > 1 << 20:
        raise ValueError("its inputs or outputs are too many")
    told = json_of(text)
    if not isinstance(told, list) or len(told) != 2 or told[0] != 1:
        raise ValueError("it does not say what it takes and returns")
    _branch(told[1], 0)


def _branch(told: Any, depth: int) -> None:
    fits = isinstance(told, Mapping) and set(told) == {"type", "context", "children_spec"}
    if not fits or depth > _DEEPEST or not isinstance(told["children_spec"], list):
        raise ValueError("it does not say what it takes and returns")
    kind, context, children = told["type"], told["context"], told["children_spec"]
    if kind is None:
        if context is not None or children:
            raise ValueError("it does not say what it takes and returns")
        return
    if kind not in _CONTAINERS:
        raise ValueError(
            f"it takes or returns {ascii(kind)[:100]}, and only tuples, lists and dicts of tensors are read"
        )
    keys: Any = json_of(context) if isinstance(context, str) else 0
    if kind in _DICTS:
        good = isinstance(keys, list) and len(keys) == len(children)
        if not good or not all(isinstance(key, str | int) for key in keys):
            raise ValueError("the keys of what it takes or returns are no texts")
        for key in keys:
            _plain(str(key))
    elif keys is not None:
        raise ValueError("it does not say what it takes and returns")
    for child in children:
        _branch(child, depth + 1)


def _has_plain_keywords(text: str) -> bool:
    """Whether the names of keyword arguments can stand in code."""
    told = json.loads(text)[1]
    children = told["children_spec"]
    if told["type"] != "builtins.tuple" or len(children) != 2 or children[1]["type"] not in _DICTS:
        return False
    return all(isinstance(key, str) and _NAME.fullmatch(key) for key in json.loads(children[1]["context"]))


_TEXTS: dict[str, Callable[[str], None]] = {
    "name": _name,
    "as_name": _name,
    "forward_arg_names": _name,
    "target": _operator,
    "as_operator": _operator,
    "in_spec": _tree,
    "out_spec": _tree,
    "fqn": _tensor,
    "parameter_name": _tensor,
    "buffer_name": _tensor,
    "tensor_constant_name": _tensor,
    "user_input_name": _name,
    "type": _device,
    "torch_version": _plain,
    "as_string": _plain,
    "as_strings": _plain,
    "as_float": _word,
    "as_floats": _word,
    "as_float_lists": _word,
    "real": _word,
    "imag": _word,
    "verifiers": _verifier,
}
_KEYS: dict[str, Callable[[str], None]] = {"range_constraints": _symbol}
_OBJECTS = ("as_custom_obj", "custom_obj")
