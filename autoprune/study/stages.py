"""What a trial is doing: how long each stage takes, and which component is to blame when one fails."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from autoprune.errors import AutopruneError, TrialError
from autoprune.plugin import Component


class Stages:
    """Measures stages. A stage within a stage counts for itself alone, so the times add up."""

    def __init__(self, device: torch.device, check: Callable[[], None] = lambda: None) -> None:
        """Nothing has begun.

        Args:
            device: Where it runs.
            check: Called when a component's stage ends; raises if it did what it must not.
        """
        self._device = device
        self._check = check
        self._names: list[str] = []
        self._since = 0.0
        self.durations_s: dict[str, float] = {}
        """Wall-clock seconds per stage that has begun."""
        self.culprit: Component | None = None
        """Whose stage an exception came out of, innermost."""

    @contextmanager
    def stage(self, name: str, component: Component | None = None, *, runs: bool = True) -> Iterator[None]:
        """Time what runs inside.

        Args:
            name: Stages of one name are added up.
            component: Whose code runs.
            runs: Whether it does; else what it made before is looked up.
        """
        self._clock()
        self._names.append(name)
        self.culprit = None
        try:
            yield
            if component is not None and runs:
                self._check()
        except BaseException:
            self.culprit = self.culprit or component
            raise
        finally:
            self._clock()
            self._names.pop()

    def reason(self, error: BaseException) -> str:
        """What went wrong, in one line, see `told`."""
        return told(error, self.culprit)

    def _clock(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._names:
            self.durations_s[self._names[-1]] = self.durations_s.get(self._names[-1], 0.0) + now - self._since
        self._since = now


def told(error: BaseException, culprit: Component | None) -> str:
    """What went wrong, in one line: component, error and the innermost line of the component's own code."""
    text = " ".join(str(error).split())[:500]
    if not isinstance(error, AutopruneError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if culprit is None:
        return text
    text = f"{culprit.kind} {culprit.name}: {text}"
    package = type(culprit).__module__.partition(".")[0]
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    if isinstance(error, AutopruneError) or not frames:
        return text
    code, line = frames[-1]
    return f"{text} ({Path(code.co_filename).name}:{line} in {code.co_name})"


@contextmanager
def blaming(component: Component) -> Iterator[None]:
    """Tell whose fault it is, where what runs inside is called by others than a trial, such as a sampler.

    Raises:
        TrialError: The component raised something.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        raise TrialError(told(error, component)) from error
