"""Markdown tables of benchmarks, and where they ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import Any

import jax

PACKAGES = ("jaxprof", "jax", "numpy", "scipy", "gammapy", "iminuit", "numba")


def where() -> str:
    """Device, cores, versions, date and load: without them a time means little."""
    device = jax.devices()[0]
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "\n".join(
        [
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}",
            f"- {len(jax.devices())} x {device.device_kind} ({device.platform}); {cores} CPU cores "
            f"of {os.cpu_count()}, load average {os.getloadavg()[0]:.1f}",
            f"- {', '.join(versions)}",
            "",
        ]
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table of rows, with the columns that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (_cell(row.get(name, "")) for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
