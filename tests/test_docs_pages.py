"""All code on the pages of the documentation runs, links resolve, and the pages can be built."""

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs beside the tests")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_code(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / name).read_text(encoding="utf-8")
    names = {}
    # The one warning that pages may speak of, and then it must be true; any other is an error.
    misfit = "the joint fit does not describe what is in bin"
    said = misfit in " ".join(text.split())
    with pytest.warns(UserWarning, match=misfit) if said else nullcontext():
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.S)):
            exec(compile(block, f"{name}, python block {number}", "exec"), names)
    plt.close("all")


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


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PROBE = """<script>addEventListener("load", () => {
  for (const image of document.images) image.loading = "eager";
  setTimeout(() => {
    const broken = [...document.images].filter((image) => !image.naturalWidth).length;
    const wide = document.documentElement.scrollWidth - innerWidth;
    document.title = `probe ${wide} ${document.images.length} ${broken}`;
  }, 1000);
});</script></body>"""

# Made by the build, and checked by it.
GENERATED = ("examples/", "api/", "figures/")


def anchors(path):
    """What a link may name on a page: headings as GitHub spells them, and explicit targets."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    found = {re.sub(r"[^\w\- ]", "", own.lower()).replace(" ", "-") for own in headings}
    return found | set(re.findall(r"^\((\S+)\)=$", text, flags=re.M))


@pytest.mark.parametrize("name", PAGES)
def test_links(name):
    """Links and pictures within the documentation lead somewhere."""
    text = (DOCS / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    targets += re.findall(r"^```\{(?:image|figure)\} (\S+)", text, flags=re.M)
    for target in targets:
        path, _, anchor = target.partition("#")
        if target.startswith("http") or path.startswith(GENERATED):
            continue
        file = DOCS / path if path else DOCS / name
        assert file.is_file(), f"{name}: {target}"
        assert not anchor or anchor in anchors(file), f"{name}: {target}"


def test_every_page_is_in_a_table_of_contents():
    text = "".join((DOCS / name).read_text(encoding="utf-8") for name in PAGES)
    tables = re.findall(r"```\{toctree\}\n(.*?)```", text, flags=re.S)
    listed = {line for table in tables for line in table.split() if not line.startswith(":")}
    assert {Path(name).stem for name in PAGES} - {"index"} <= listed


def public_names(module):
    """Names that a module re-exports, ``from ... import x as x``."""
    path = Path(importlib.util.find_spec(module).origin)
    return set(re.findall(r"import \(?\s*(\w+) as \1\b", path.read_text(encoding="utf-8")))


def test_every_public_name_is_on_the_page_of_the_api():
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w.]+)$", page, flags=re.M)
    assert len(listed) == len(set(listed))
    for name in listed:
        module, _, own = f"jaxprof.{name}".rpartition(".")
        assert hasattr(importlib.import_module(module), own), name
    assert len(public_names("jaxprof")) > 80
    for module in ("jaxprof", "jaxprof.core", "jaxprof.likelihood", "jaxprof.plotting"):
        prefix = module.removeprefix("jaxprof").lstrip(".")
        own = {f"{prefix}.{name}".lstrip(".") for name in public_names(module)}
        # What `jaxprof` itself has is there under that name.
        own -= {f"{prefix}.{name}" for name in public_names("jaxprof")} if prefix else set()
        assert own <= set(listed), sorted(own - set(listed))


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.add(values.get("id"))
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


def check_links(html):
    """All links between pages lead to a page and an element of it."""
    found = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    pages = {path.resolve(): Page(path) for path in found}
    assert len(pages) > 100
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.exists(), f"{path.name}: {link}"
            if target in pages and url.fragment:
                assert unquote(url.fragment) in pages[target].anchors, f"{path.name}: {link}"


def check_in_browser(page, folder):
    """On a narrow screen only tables, code and formulas scroll sideways; all figures show."""
    probed = page.with_name(f"probed_{page.name}")
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    command += [f"--user-data-dir={folder / 'user'}", "--virtual-time-budget=5000", "--dump-dom"]
    options = {"capture_output": True, "text": True, "timeout": 120, "check": True}
    probed.write_text(text, encoding="utf-8")
    try:
        dom = subprocess.run([*command, probed.as_uri()], **options).stdout
    finally:
        probed.unlink()
    wide, images, broken = map(int, re.search(r"<title>probe (\S+) (\d+) (\d+)<", dom).groups())
    assert wide <= 0 and broken == 0, page.name
    assert images >= 1 or page.stem not in ("index", "flux_profiles")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Folder of the pages: $JAXPROF_HTML, which `make docs` made, or built here.

    Then one of the examples runs, whose figure is on the first page; the others have tests of
    their own. Sphinx has nothing to say, and the examples of docstrings are right.
    """
    if os.environ.get("JAXPROF_HTML"):
        return Path(os.environ["JAXPROF_HTML"])
    for name in ("sphinx", "numpydoc", "myst_parser", "sphinx_gallery", "pydata_sphinx_theme"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("_build", "api", "examples", "sg_execution_times.rst")
    source = shutil.copytree(DOCS, folder / "docs", ignore=ignored)
    shutil.copytree(DOCS.parent / "examples", folder / "examples")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for builder, pattern in (("html", "flux_profiles"), ("doctest", "none")):
        options = ["-W", "--keep-going", "-q", "-b", builder]
        options += ["-D", f"sphinx_gallery_conf.filename_pattern={pattern}"]
        command = [sys.executable, "-m", "sphinx", *options, source, folder / builder]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
    return folder / "html"


@pytest.mark.slow
def test_built_pages_lead_to_each_other(html):
    page = (html / "examples" / "flux_profiles.html").read_text(encoding="utf-8")
    assert page.count("sphx_glr_flux_profiles_0") >= 9
    assert len(list(html.rglob("flux_profiles.ipynb"))) == 1
    assert "<math" in (html / "statistics.html").read_text(encoding="utf-8")
    check_links(html)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_shows_what_the_first_page_leads_to(html, tmp_path):
    first = html / "index.html"
    linked = {(html / urlsplit(link).path).resolve() for link in Page(first).links}
    pages = {path for path in linked if path.suffix == ".html"} - {first}
    assert len(pages) > 10
    for page in (first, html / "examples" / "flux_profiles.html", *sorted(pages)):
        check_in_browser(page, tmp_path)
