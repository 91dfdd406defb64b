"""Plain scalars of YAML 1.2's core schema, and ``${VARIABLE}`` in text.

The core schema (https://yaml.org/spec/1.2.2/#103-core-schema) is resolved here rather than by ruamel.yaml, which also
reads dates, ``1_000`` and the base-60 ``1:30``.
"""

from __future__ import annotations

import os
import re

Scalar = str | int | float | bool | None

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)")
_LONGEST_INTEGER = 300  # digits; Python refuses to read integers of thousands of digits, and a float holds 308

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\})?")


def read_scalar(text: str) -> Scalar:
    """What an unquoted scalar means."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) <= _LONGEST_INTEGER:
        return int(text)
    if (_OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text)) and len(text) <= _LONGEST_INTEGER:
        return int(text, base=0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NOT_A_NUMBER.fullmatch(text) else text


def is_placeholder(text: str) -> bool:
    """Whether the text is one placeholder and nothing else."""
    match = _PLACEHOLDER.fullmatch(text)
    return match is not None and match["name"] is not None


def expand(text: str) -> tuple[str, list[str]]:
    """Fill ``${NAME}`` and ``${NAME:-default}`` from the environment; ``$${`` stands for a plain ``${``.

    As in a shell, the default also takes the place of an empty variable.

    Returns:
        The text, and what is wrong with its placeholders.
    """
    wrong: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if name is None:
            wrong.append("write a placeholder as ${NAME} or ${NAME:-default}, and a plain ${ as $${")
        elif default is not None:
            return os.environ.get(name) or default
        elif name not in os.environ:
            wrong.append(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        else:
            return os.environ[name]
        return ""

    return _PLACEHOLDER.sub(fill, text), wrong
