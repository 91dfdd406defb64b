"""The command line: parses arguments and prints; everything else is done by the packages below it.

Commands return a `Reply`, errors become one, and `main` prints it. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code.

    0 done, 1 unexpected, 2 usage, spec or data, 3 plugin, 4 no feasible trial, 130 interrupted (resumable).

    Args:
        arguments: What stands behind ``autoprune``; the process's own arguments if None.
    """
    from autoprune.cli.run import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
