"""Symbolic expressions of exported programs, as sympy's ``srepr`` writes them: ``Add(Symbol('s0'), Integer(1))``.

PyTorch reads them by ``sympify``, which evaluates Python; so what it gets has to be of the few calls below, with sizes
that can be computed at once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

SYMBOL = re.compile(r"(s|zf)[0-9]{1,9}|(u|zuf)[0-9]{1,4}")
"""What torch.export calls sizes; PyTorch counts up to the number of the latter kinds."""
_FUNCTIONS = frozenset(
    "Abs Add And CeilDiv CeilToInt CleanDiv Equality FloatTrueDiv FloorDiv FloorToInt GreaterThan Identity IntTrueDiv "
    "LessThan Max Min Mod ModularIndexing Mul Not Or Pow PythonMod RoundToInt StrictGreaterThan StrictLessThan ToFloat "
    "TruncToFloat TruncToInt Unequality Where ceiling floor".split()
)
_PAIRWISE = frozenset(("Max", "Min", "And", "Or"))
_LONGEST = 4000
_MOST_PAIRED = 32
"""Arguments of those that compare each with each, in all."""
_POWERS = range(-8, 9)


def checked(text: str) -> str:
    """An expression of sizes.

    Returns:
        The same, written anew of what was understood.

    Raises:
        ValueError: It is something else, or takes long to compute.
    """
    wrong = ValueError(f"{text[:100]!a} is no expression of sizes")
    if len(text) > _LONGEST:
        raise wrong
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        calls = list(_calls(tree))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise wrong from error
    if sum(len(call.args) for call in calls if _called(call) in _PAIRWISE) > _MOST_PAIRED:
        raise wrong
    return ast.unparse(tree)


def _calls(node: ast.expr) -> Iterator[ast.Call]:
    """Every call in an expression.

    Raises:
        ValueError: It is more than calls of what is known.
    """
    if isinstance(node, ast.Name) and (node.id in ("true", "false") or SYMBOL.fullmatch(node.id)):
        return
    if not isinstance(node, ast.Call):
        if _number(node) is None:
            raise ValueError
        return
    name = _called(node)
    if name in _LEAVES:
        if not _LEAVES[name](node):
            raise ValueError
        return
    if name not in _FUNCTIONS or any(word.arg != "evaluate" or not _is_truth(word.value) for word in node.keywords):
        raise ValueError
    yield node
    inner = [call for argument in node.args for call in _calls(argument)]
    if name == "Pow":
        power = node.args[1] if len(node.args) == 2 else node  # of two alone
        whole = power.args[0] if isinstance(power, ast.Call) and _called(power) == "Integer" else power
        if _number(whole) not in _POWERS or any(_called(call) == "Pow" for call in inner):
            raise ValueError
    yield from inner


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _number(node: ast.expr) -> int | None:
    """A whole number of at most 64 bits."""
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    value = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    if not isinstance(value, ast.Constant) or type(value.value) is not int or value.value >= 2**63:
        return None
    return -value.value if negative else value.value


def _is_truth(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is bool


def _text(call: ast.Call) -> str:
    first = call.args[0] if len(call.args) == 1 else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _is_symbol(call: ast.Call) -> bool:
    assumed = ("positive", "integer", "nonnegative", "nonzero", "negative", "real", "finite")
    known = all(word.arg in assumed and _is_truth(word.value) for word in call.keywords)
    return known and SYMBOL.fullmatch(_text(call)) is not None


def _is_float(call: ast.Call) -> bool:
    precise = all(word.arg == "precision" and _number(word.value) == 53 for word in call.keywords)
    return precise and re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{1,40})?(e[-+]?[0-9]{1,3})?", _text(call)) is not None


def _is_ratio(call: ast.Call) -> bool:
    return len(call.args) in (1, 2) and not call.keywords and all(_number(each) is not None for each in call.args)


_LEAVES = {"Symbol": _is_symbol, "Integer": _is_ratio, "Rational": _is_ratio, "Float": _is_float}
