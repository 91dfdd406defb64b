"""What a notebook's cell shows while a search runs; takes no widgets."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from html import escape
from types import TracebackType
from typing import Any, Self

from autoprune.api.watch import Watch, lasted, titles, values

_LEAST_S = 0.5
"""Between two pictures."""
_MOST_S = 5.0
"""The clock goes on."""


@dataclass(frozen=True)
class Picture:
    """A display's content, for those who show HTML and for those who do not."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class Notebook(Watch):
    """A bar with the time left, and the front as it stands, in place."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        super().__init__()
        self._handle: Any = None
        self._drawn = 0.0
        self._stale = False
        self._turn = threading.Lock()
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        self._handle = importlib.import_module("IPython.display").display(self.picture(), display_id=True)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is not None:
            self.doing = f"stopped while {self.doing}"
        self._draw(last=True)

    def show(self) -> None:
        """Draw it, unless that was just now."""
        self._stale = True
        if time.monotonic() - self._drawn >= _LEAST_S:
            self._draw()

    def beat(self) -> None:
        """Draw what has changed since, or the clock."""
        if self._stale or time.monotonic() - self._drawn >= _MOST_S:
            self._draw()

    def picture(self, *, last: bool = False) -> Picture:
        """How it stands; at last without the front, which the result shows."""
        study = self.study
        text = f"{study.name}: {self.doing}" if study else self.doing
        if study is not None:
            text += f", {self.done} of {study.trials} trials"
        if self.failed:
            text += f", {self.failed} failed"
        text += f", {lasted(time.monotonic() - self._begun)}"
        now = self.done - self.earlier
        if study is not None and now and self.done < study.trials and not last:
            left = (time.monotonic() - self.began) / now * (study.trials - self.done)
            text += f", about {lasted(left)} left"
        bar = f'<progress value="{self.done}" max="{study.trials if study else 1}"></progress> ' if study else ""
        rows = "" if last or study is None or not self.found else self._rows()
        return Picture(f"<div>{bar}{escape(text)}</div>{rows}", text)

    def _rows(self) -> str:
        study = self.study
        assert study is not None  # noqa: S101  asked before
        head = "".join(f"<th>{escape(title)}</th>" for title in ("trial", *titles(study)))
        cells = ("".join(f"<td>{escape(each)}</td>" for each in (str(t.number), *values(study, t))) for t in self.front)
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<table><caption>front of {self.found}</caption><tr>{head}</tr>{body}</table>"

    def _draw(self, *, last: bool = False) -> None:
        with self._turn:
            self._stale, self._drawn = False, time.monotonic()
            if self._handle is not None:  # None where nobody displays
                self._handle.update(self.picture(last=last))
