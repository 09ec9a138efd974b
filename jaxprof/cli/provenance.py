"""Where a result comes from: versions, inputs with their hashes, device."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

import jaxprof
from jaxprof.io.textfile import sha256

_PACKAGES = ("jax", "jaxlib", "jaxopt", "numpy", "scipy", "astropy", "regions", "matplotlib")


def versions() -> dict[str, str]:
    """Versions of jaxprof, Python and the packages that results depend on."""
    found = {"jaxprof": jaxprof.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def device() -> str:
    """The device that JAX computes on."""
    first = jax.devices()[0]
    return f"{first.platform} ({first.device_kind})"


def provenance(inputs: list[Path]) -> dict[str, Any]:
    """When, where and of what a result was made.

    Parameters
    ----------
    inputs : list of Path
        Files that it depends on.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["jaxprof", *sys.argv[1:]],
        "versions": versions(),
        "platform": platform.platform(),
        "device": device(),
        "inputs": [
            {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in inputs
        ],
    }
