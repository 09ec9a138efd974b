"""The command line, ``jaxprof``; `jaxprof.cli.app` has its commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without its packages, say how to install them and exit with 1."""
    try:
        from jaxprof.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "pydantic", "yaml"):
            raise
        print(
            f'jaxprof: the command line needs the package {error.name}; pip install "jaxprof[cli]"',
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    app(prog_name="jaxprof")
