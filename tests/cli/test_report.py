"""The report as a page: in a parser, and in a browser where there is Chromium."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import astropy.units as u
import pytest
from astropy.coordinates import SkyCoord
from profile_factory import make_profile
from regions import CircleSkyRegion

from jaxprof import WcsNDMap
from jaxprof.cli.figures import _number, figures, image
from jaxprof.cli.provenance import provenance
from jaxprof.cli.report import report
from jaxprof.plotting import plot_map

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
EVIL = "<script>document.title='evil'</script>"
# What the browser made of the page, written into its title.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = "probe " + JSON.stringify({
    broken: images.filter(i => !i.complete || !i.naturalWidth).length,
    images: images.length,
    squeezed: images.filter(i =>
      Math.abs(i.width / i.height * i.naturalHeight / i.naturalWidth - 1) > 0.02).length,
    loaded: performance.getEntriesByType("resource").map(e => e.name)
      .filter(n => !n.startsWith("data:")),
    wide: document.documentElement.scrollWidth - innerWidth,
    dark: getComputedStyle(document.body).backgroundColor,
    links: document.querySelectorAll("a, link:not([rel=icon]), iframe, object").length,
  });
});</script></body>"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    import matplotlib.pyplot as plt

    source = tmp_path_factory.mktemp("report") / "config.yaml"
    source.write_text(EVIL)
    profile = make_profile(dataset_names=[EVIL])
    record = provenance([source]) | {
        "warnings": [f"beware of {EVIL}"],
        "seconds": 1.5,
        "config_as_given": EVIL,
    }
    drawn = figures(profile, [], "flux")
    shown = {name: (caption, image(figure, "png")) for name, (caption, figure) in drawn.items()}
    plt.close("all")
    path = source.with_name("report.html")
    text = report(profile, shown, record, title=EVIL, sed_type="flux")
    path.write_text(text, encoding="utf-8")
    return path


def test_it_needs_nothing_beside_it(page):
    text = page.read_text(encoding="utf-8")
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(tag)
            for name, value in attrs:
                if name in ("src", "href"):
                    assert value.startswith("data:"), value[:80]
                assert not name.startswith("on")

    Parser().feed(text)
    assert "script" not in found and found.count("img") >= 3
    assert "url(" not in text and "@import" not in text
    # What is in it: the status of the bins that there are, in words, and the hash of the input.
    assert "zero counts (1)" in text and "fully masked (1)" in text and "boundary (" not in text
    assert re.search(r"<td>[0-9a-f]{64}</td>", text)
    assert text.count(html.escape(EVIL)) == 5


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize("width, dark", [(1200, False), (500, False), (1200, True)])
def test_in_a_browser(page, tmp_path, width, dark):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
    ]
    command += [f"--user-data-dir={tmp_path / 'user'}", "--virtual-time-budget=5000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shot = tmp_path / "page.png"
    options = {"capture_output": True, "text": True, "timeout": 120, "check": True}
    dom = subprocess.run([*command, "--dump-dom", probed.as_uri()], **options).stdout
    found = json.loads(html.unescape(re.search(r"<title>probe (.*?)</title>", dom)[1]))
    assert found["images"] >= 3 and found["broken"] == 0 and found["squeezed"] == 0
    assert found["loaded"] == [] and found["links"] == 0
    assert found["wide"] <= 0  # only tables scroll sideways
    assert (max(map(int, re.findall(r"\d+", found["dark"]))) < 60) == dark
    subprocess.run([*command, f"--screenshot={shot}", page.as_uri()], **options)
    assert Path(shot).stat().st_size > 10_000


def test_bins_behind_the_map_leave_numbers_of_others():
    ax = plot_map(WcsNDMap.create(npix=(20, 20), binsz=1.0, proj="TAN"))
    regions = [CircleSkyRegion(SkyCoord(lon, 0, unit="deg"), 1 * u.deg) for lon in (150, 0, 5)]
    _number(regions, ax)
    assert [text.get_text() for text in ax.texts if text.get_gid() == "bin-number"] == ["1", "2"]
