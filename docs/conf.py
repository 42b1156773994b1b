"""Settings of the documentation site; `make docs` builds it, without a network.

What is fetched at run time is nothing: fonts, scripts and styles are the theme's own files. The
scripts of the gallery run on the CPU with what the package ships.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# Before JAX is imported, here and in the scripts of the gallery.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]

import neuroadapter_jax  # noqa: E402 - found by the line above

project = "neuroadapter-jax"
author = "neuroadapter-jax developers"
copyright = f"{author}. Apache License 2.0"
version = release = neuroadapter_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_reference",
    "repository_links",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
suppress_warnings = ["toc.empty_glob"]  # howto/index.md lists what is not named in it, if anything
nitpicky = (
    False  # the axes in annotations, Float[Array, "b p"], are no names that a page could have
)

# Markdown. Headings get the anchors that GitHub gives them.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_exclude = ".linenos, .gp, .go"

# The API reference.
default_role = "py:obj"
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
doctest_test_doctest_blocks = "default"

# The gallery. A script that fails, or warns, ends the build.
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "copyfile_regex": r".*\.(rst|md)",
    "doc_module": ("neuroadapter_jax",),
    "reference_url": {"neuroadapter_jax": None},
    "backreferences_dir": "gallery/backreferences",
    "image_scrapers": ("matplotlib",),
    "min_reported_time": 1,
    "capture_repr": (),  # a picture says it, not <matplotlib.legend.Legend object at 0x...>
    "write_computation_times": False,  # a page that loads its table's script from elsewhere
    "remove_config_comments": True,
    "show_signature": False,
    "plot_gallery": os.environ.get("NEUROADAPTER_GALLERY", "1") != "0",
}

# The pages.
html_theme = "pydata_sphinx_theme"
html_title = "neuroadapter-jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/logo.svg"
html_copy_source = html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses to a site on a disk
html_sidebars = {"index": [], "first_steps": [], "changelog": [], "contributing": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "neuroadapter-jax", "image_light": "logo.svg", "image_dark": "logo.svg"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navigation_depth": 3,
    "show_toc_level": 2,
    "back_to_top_button": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version", "theme-version"],
}
