"""Mutations of texts, trees and bytes: what an attacker, an accident or another program may make of a good file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

MARKER = "fuzzed-marker"
"""A file that is made where code runs that a mutated file brings along."""
CODE = f"__import__('os').system('touch {MARKER}')"
TEXTS = (
    CODE,
    "os:system",
    "torch.os.system",
    "torch.ops.aten.from_file.default",
    f"x = {CODE}",
    "../../../../tmp/fuzzed",
    "/dev/zero",
    "/dev/stdin",
    "pipe",
    ".",
    "",
    " ",
    "\0",
    "\x1b[2J\u202e",
    "\ud800",
    "a" * 5000,
    "(" * 500,
    "9" * 5000,
    "0x" + "f" * 5000,
    "${HOME}",
    "${",
    "!!python/object/apply:os.system [x]",
    "*a",
    "&a b",
    "postgresql://me:pa/ss@w:ord@h/db",
    "Pow(Integer(9), Pow(Integer(9), Integer(99)))",
    "Symbol('u99999999999', integer=True)",
    "inf",
    "nan",
    "1e999",
    "2:4",
    "auto",
    "digits-cnn",
    "pruned",
    "huggingface",
    "0",
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    7,
    255,
    2**31,
    -(2**31),
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    -(2**64),
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    1e-308,
)
VALUES: tuple[Any, ...] = (*TEXTS, *NUMBERS, True, False, None, [], {}, [[]], {"": None}, [0] * 1000)


def tree(data: Any, random: Random) -> Any:
    """Plain data with a few of its values, keys or lists changed."""
    data = copy.deepcopy(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        places = list(_places(data))
        if not places:
            return copy.deepcopy(random.choice(VALUES))
        holder, key = random.choice(places)
        _change(holder, key, [value for parent, name in places for value in (parent[name],)], random)
    return data


def text(content: str, random: Random) -> str:
    """A text with lines or pieces of it lost, doubled, swapped or replaced."""
    for _ in range(random.choice((1, 1, 2, 4))):
        start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
        end = min(end, start + random.choice((1, 4, 40, 400)))
        piece = content[start:end]
        new = random.choice((
            "", piece * 2, piece[::-1], random.choice(TEXTS), f" {random.choice(NUMBERS)!s:.999} ", piece * 50, "\n",
            "\t", "- ", ": ", "{", "]", '"', "'", "#", "\n\n", piece.upper(), content[:200],
        ))  # fmt: skip
        content = content[:start] + new + content[end:]
    return content


def octets(content: bytes, random: Random) -> bytes:
    """Bytes with some of them flipped, lost, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 8, 32))):
        if not changed:
            return b""
        at = random.randrange(len(changed))
        kind = random.randrange(6)
        if kind <= 1:
            changed[at] = random.randrange(256)
        elif kind == 2:
            changed[at : at + 8] = random.choice(
                (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, (2**40).to_bytes(8, "little"))
            )
        elif kind == 3:
            del changed[at : at + random.choice((1, 4, 100))]
        elif kind == 4:
            changed[at:at] = changed[at : at + random.choice((1, 16, 100))]
        elif random.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def json_bytes(content: bytes, random: Random) -> bytes:
    """JSON that is changed as a tree, mostly, or as a text."""
    if random.random() < 0.8:
        return json.dumps(tree(json.loads(content), random)).encode("utf-8", "replace")
    return text(content.decode(), random).encode("utf-8", "replace")


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from _places(data[key])


def _change(holder: Any, key: Any, others: list[Any], random: Random) -> None:
    kind = random.randrange(8)
    if kind <= 2:
        holder[key] = copy.deepcopy(random.choice(VALUES))
    elif kind == 3 and type(holder[key]) in (int, float):
        holder[key] = random.choice(NUMBERS)
    elif kind == 4:
        holder[key] = copy.deepcopy(random.choice(others))
    elif kind == 5:
        del holder[key]
    elif kind == 6 and isinstance(holder, dict):
        holder[random.choice([*TEXTS, *map(str, holder)])] = copy.deepcopy(holder[key])
    elif isinstance(holder[key], list) and holder[key]:
        holder[key] = holder[key] * random.choice((2, 3, 50))
    elif isinstance(holder[key], str) and holder[key]:
        holder[key] = text(holder[key], random)
    else:
        holder[key] = [holder[key]]
