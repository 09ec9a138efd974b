"""Settings of Sphinx; ``make docs`` builds the pages into docs/_build/html.

The data of all examples are simulated, so that the pages are the same everywhere: they need no
$GAMMAPY_DATA, and no network; links into the pages of astropy and others do, and take
JAXPROF_INTERSPHINX=1.
"""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.pop("GAMMAPY_DATA", None)
os.environ["MPLBACKEND"] = "Agg"
# What examples compile is kept for the next build.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "jax"))
warnings.filterwarnings("ignore", "JAXopt is no longer maintained")

import gallery_settings  # noqa: E402

import jaxprof  # noqa: E402

project = "jaxprof"
author = "the jaxprof developers"
copyright = "the jaxprof developers"
version = release = jaxprof.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "gallery_settings",
    "mathml",
    "page_figures",
]
if os.environ.get("JAXPROF_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "gammapy": ("https://docs.gammapy.org/dev", None),
    }
exclude_patterns = ["_build", "_ext", "_templates", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
default_role = "obj"
nitpicky = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

toc_object_entries_show_parents = "hide"
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
doctest_global_setup = "import jax; jax.config.update('jax_enable_x64', True)"

sphinx_gallery_conf = gallery_settings.settings(HERE)

html_theme = "pydata_sphinx_theme"
html_title = "jaxprof"
html_static_path = ["_static"]
html_css_files = ["jaxprof.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "jaxprof"},
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {name: [] for name in ("index", "start", "gammapy")}
