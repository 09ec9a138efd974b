"""All code on the pages of the documentation runs, from top to bottom."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs beside the tests")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_code(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    names = {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.S)):
        exec(compile(block, f"{name}, python block {number}", "exec"), names)


def test_parameters_are_those_of_the_class():
    """The table of the page and that of the docstring have the same names and shapes."""
    from jaxprof import Likelihood

    page = (DOCS / "likelihood.md").read_text(encoding="utf-8")
    section = page.split("## Parameters")[1].split("## Values")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, flags=re.M))
    assert len(rows) == 8
    for name, shape in rows.items():
        own = re.search(
            rf"^ *{name} +(\(.*?\)|dict of \(G,\)|a model) ", Likelihood.__doc__, flags=re.M
        )
        assert own and own.group(1) == shape, name
