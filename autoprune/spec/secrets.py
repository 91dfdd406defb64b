"""Passwords in URIs: the only place that knows where they stand. None is written, logged or shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

VARIABLE = "AUTOPRUNE_PASSWORD"
"""Environment variable that a study asks for the password that its spec had; of others with ``_2``, ``_3``, …."""

_BEGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://[^\s/@:'\"]*:")
_WORDS = "passw|pwd|secret|token|credential|signature|api_?key|odbc_connect"
_IN_QUERY = re.compile(rf"([?&;][^=&;\s]{{0,40}}(?:{_WORDS})[^=&;\s]{{0,40}}=)([^&#\s'\"]+)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}")
_MASK = "***"
_SHORTEST = 3
"""Of the parts of a password that are looked for, as who reads a URI otherwise may tell of a part."""


def masked(text: str, *, whole: bool = False, of: Iterable[str] = ()) -> str:
    """A text with ``***`` in place of passwords.

    Args:
        text: Anything that is written or shown.
        whole: It is a URI as a whole, so that a password in it may hold spaces.
        of: URIs whose passwords, and what is told of them in another way, may stand in it.
    """
    for uri in of:
        for part in _parts(uri):
            text = text.replace(part, _MASK)
    return replaced(text, lambda _: _MASK, whole=whole)


def masked_data(data: Any) -> Any:
    """Plain data with ``***`` in place of passwords."""
    return _mapped(data, lambda text: masked(text, whole=True))


def replaced(text: str, by: Callable[[str], str], *, whole: bool = False) -> str:
    """A text with something else in place of passwords; ``${NAME}`` is none.

    A password may hold any characters, unescaped ones too: all up to the last ``@`` is taken for it.
    """

    def put(password: str) -> str:
        return password if password == _MASK or _PLACEHOLDER.fullmatch(password) else by(password)

    parts = [text] if whole else re.split(r"(\s+)", text)
    text = "".join(_before_at(part, put) for part in parts)
    return _IN_QUERY.sub(lambda match: match[1] + put(match[2]), text)


def _before_at(text: str, put: Callable[[str], str]) -> str:
    """A URI with something else in place of what stands between its user and its last ``@``."""
    end = text.rfind("@")
    begin = _BEGIN.search(text, 0, end) if end > 0 else None
    return text if begin is None else text[: begin.end()] + put(text[begin.end() : end]) + text[end:]


def hint_of(uri: str) -> str:
    """What to say of a URI without its password that cannot be opened."""
    asked = re.search(r"://[^/@]*:@", uri) is not None
    return f"; its password is not kept with a study: set the environment variable {VARIABLE}" if asked else ""


def without_user(uri: str) -> str:
    """A URI without the user and the password."""
    end = uri.rfind("@")
    if end > 0 and _BEGIN.search(uri, 0, end):
        return f"{uri.partition('://')[0]}://{uri[end + 1 :]}"
    return re.sub(r"(://)[^/@]*@", r"\1", uri, count=1)


def holds_password(text: str, *, whole: bool = False) -> bool:
    """Whether a password stands in it."""
    return replaced(text, lambda _: "", whole=whole) != text


def taken_out(data: Any, write: Callable[[Any], str]) -> tuple[str, dict[str, str]]:
    """Plain data as a text that names environment variables in place of passwords.

    Args:
        data: A spec's.
        write: Writes it, and leaves letters as they are.

    Returns:
        The text, and the variables with the passwords.
    """
    found: dict[str, str] = {}

    def mark(password: str) -> str:
        if not password:
            return ""
        name = found.setdefault(password, VARIABLE if not found else f"{VARIABLE}_{len(found) + 1}")
        return f"<{name}>"

    text = write(_mapped(data, lambda each: replaced(each, mark, whole=True)))
    for name in found.values():
        text = text.replace(f"<{name}>", f"${{{name}:-}}")
    return text, {name: password for password, name in found.items()}


def _mapped(data: Any, of_text: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return of_text(data)
    if isinstance(data, dict):
        return {key: _mapped(value, of_text) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_mapped(value, of_text) for value in data]
    return data


def _parts(uri: str) -> list[str]:
    """What may be told of the passwords in a URI, the longest first."""
    found: list[str] = []

    def note(password: str) -> str:
        every = {password, unquote(password), quote(password, safe="")}
        every |= {part for each in every for part in re.split(r"[/@:?#&=\s]", each) if len(part) >= _SHORTEST}
        found.extend(every)
        return ""

    replaced(uri, note, whole=True)
    return sorted(filter(None, found), key=len, reverse=True)
