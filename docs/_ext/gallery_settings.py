"""How sphinx-gallery runs the examples, and a note on pages whose libraries are missing."""

import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any

import jax

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONAL = ("blackjax", "numpyro", "optax")


def missing(script: Path) -> list[str]:
    """Optional libraries that a script imports and that are not installed."""
    imports = re.findall(r"^(?:import|from) (\w+)", script.read_text(encoding="utf-8"), re.M)
    return [name for name in OPTIONAL if name in imports and not importlib.util.find_spec(name)]


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Command line of an example: its files go into the folder of the build."""
    return ["--out", str(Path(gallery_conf["src_dir"]) / "_build" / "out")]


def reset(gallery_conf: dict[str, Any], script: str) -> None:
    """Each example starts in JAX's default precision, and keeps no other's programs.

    Its warnings are shown without the folder of the build.
    """
    warnings.formatwarning = lambda text, kind, file, *_: f"{Path(file).name}: {text}\n"
    jax.config.update("jax_enable_x64", False)
    jax.clear_caches()


def settings(docs: Path) -> dict[str, Any]:
    """The configuration of sphinx-gallery."""
    scripts = sorted(EXAMPLES.rglob("*.py"))
    names = [re.escape(script.name) for script in scripts if not missing(script)]
    return {
        "examples_dirs": [str(EXAMPLES)],
        "gallery_dirs": ["examples"],
        "filename_pattern": "(" + "|".join(names) + ")$",
        # For a cluster; it is shown in scaling.md.
        "ignore_pattern": r"__init__\.py|distributed\.py",
        "within_subsection_order": "FileNameSortKey",
        "reset_argv": "gallery_settings.arguments",
        "reset_modules": ("matplotlib", "gallery_settings.reset"),
        "capture_repr": (),
        "image_srcset": ["2x"],
        "min_reported_time": 5,
        "remove_config_comments": True,
        "show_signature": False,
        "download_all_examples": True,
        "show_memory": False,
        "parallel": min(os.cpu_count() or 1, 4),
    }


def say_what_is_missing(app: Any, docname: str, source: list[str]) -> None:
    """Say on the page of an example why it has no figures."""
    script = EXAMPLES / f"{docname.removeprefix('examples/')}.py"
    if docname.startswith("examples/") and script.is_file() and (names := missing(script)):
        text = f"This page was built without {', '.join(names)}, and so without output and figures."
        note = f"\n\n.. note::\n\n   {text}\n"
        source[0] = re.sub(r"(\n(=+)\n)", rf"\1{note}\n", source[0], count=1)


def setup(app: Any) -> dict[str, Any]:
    """Register the note."""
    app.connect("source-read", say_what_is_missing)
    return {"parallel_read_safe": True}
