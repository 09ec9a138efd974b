"""Figures of the page that a newcomer reads first: those that its own code saves."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

PAGE = "start.md"


def run_page(app: Any) -> None:
    """Run the code of the page in docs/figures, unless what is there is newer than the page."""
    page, folder = Path(app.srcdir) / PAGE, Path(app.srcdir) / "figures"
    text = page.read_text(encoding="utf-8")
    wanted = [folder / name for name in re.findall(r"\{figure\} figures/(\S+)", text)]
    made = all(own.is_file() and own.stat().st_mtime > page.stat().st_mtime for own in wanted)
    if app.builder.format != "html" or made:
        return
    folder.mkdir(exist_ok=True)
    names: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.S)):
            exec(compile(block, f"{PAGE}, python block {number}", "exec"), names)
    plt.close("all")


def setup(app: Any) -> dict[str, Any]:
    """Run the page before it is read."""
    app.connect("builder-inited", run_page)
    return {"parallel_read_safe": True}
