"""Tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column whose name begins with ``#`` holds numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        side: Literal["left", "right"] = "right" if column.startswith("#") else "left"
        made.add_column(column.removeprefix("#"), justify=side, overflow="fold")  # a reader wants all of it
    return made
