"""Settings of Sphinx for the pages that docs/build_site.py writes."""

import re
from configparser import ConfigParser
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "settings.ini").is_file())
settings = ConfigParser(delimiters=["="], interpolation=None)
settings.read(ROOT / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

project, author, version = settings["title"], settings["author"], settings["version"]
project_copyright = settings["copyright"]
release = version
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "colon_fence", "fieldlist", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries = False
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_extra_path = ["llms.txt"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
html_theme_options = {
    "logo": {"text": f"{project} {version}"},
    "header_links_before_dropdown": 7,
    "icon_links": [{"name": "Source", "url": settings["git_url"], "icon": "fa-brands fa-github"}],
    "navbar_align": "left",
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "use_edit_page_button": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": ["page-toc", "edit-this-page"],
}
html_sidebars = {"index": [], "get_started": [], "benchmarks": [], "tutorials/faq": []}
html_context = {
    "default_mode": "auto", "github_user": settings["user"], "github_repo": settings["repo"], "github_version": settings["branch"],
    "doc_path": "nbs",
}  # fmt: skip


def inline_math(translator, node):
    """A formula in a line of text as MathML."""
    translator.body.append(convert(node.astext()))
    raise SkipNode


def display_math(translator, node):
    """A formula of its own as MathML."""
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def page_context(app, pagename, templatename, context, doctree):
    """An edit button only on pages that are notebooks; the first page is nbs/index.ipynb."""
    if not re.match(r"\d\d_|tutorials/(?!index)", pagename):
        context["theme_use_edit_page_button"] = False


def setup(app):
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("html-page-context", page_context)
