"""What peers print and warn of is not the harness's to show."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import optuna


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep output, warnings and Optuna's log back."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
