"""Build the documentation in _site/: nbdev prepares the notebooks, Quarto (where it is installed) or smalldocs renders.

nbdev adds the API documentation after each exported cell, hides what `#| hide` hides and turns names in backticks into
links. Nothing is downloaded.
"""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from html import unescape
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.mathtext import math_to_image
from nbdev.config import get_config
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parent.parent
DUNDER = re.compile(r"(\"### [\w.]*?)__(\w+)__(?=\\n)")  # in a notebook's JSON: a heading such as X.__len__
SIGNATURE = re.compile(r"^\s*\"(?:    |def |\)->).*$", re.MULTILINE)
LINK = re.compile(r"\[(`[^`]+`)\]\([^)]*\)")
FONTS = re.compile(r"""@import\s*(?:url\()?\s*("|')https?://.*?\1\s*\)?\s*;|@import\s*url\(https?://[^)]*\)\s*;""")
KATEX = re.compile(r"<link[^>]*/katex@[^>]*>|<script[^>]*/katex@[^>]*>\s*</script>|<script>[^<]*renderMathInElement[^<]*</script>")
FORMULA = re.compile(r'<span class="math (inline|display)">([^<]*)</span>')
PICTURE = re.compile(r"(?:\.\./)+((?:images|gif)/[\w./-]+\.(?:png|gif|svg|jpg))")


def benchmark_table(path):
    """The lines of one benchmark as Markdown: what all lines say once, then a table of the rest, at most forty rows."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    made = [row for row in rows if "date" in row]
    notes = [", ".join(f"{name} {value}" for name, value in row.items()) for row in made]
    groups = {}
    for row in (row for row in rows if row not in made):
        groups.setdefault(tuple(row), []).append(row)
    tables = []
    for names, group in groups.items():
        cells = [names, ["---"] * len(names), *(row.values() for row in group[:40])]
        lines = ["| " + " | ".join(map(str, line)) + " |" for line in cells]
        more = f"\n\n… and {len(group) - 40} more in `bench/results/{path.name}`" if len(group) > 40 else ""
        tables.append("\n".join(lines).replace("[", "").replace("]", "") + more)
    return "\n\n".join([f"## {path.stem.replace('_', ' ')}", *notes, *tables])


def write_benchmarks(folder):
    """A page of what the scripts in bench/ measured, from their JSON lines, and its place in the sidebar."""
    intro = (
        "# Benchmarks\n\n> What the scripts in `bench/` measured, on the machines and days that stand beside the numbers.\n\n"
        "This page is generated from the JSON lines in `bench/results/`. *PLAsTiCC* are real light curves of that challenge; the"
        " simulation is synthetic and in ELAsTiCC2's format. Nothing here was measured on ELAsTiCC2 as a whole."
    )
    texts = [intro, *(benchmark_table(path) for path in sorted((ROOT / "bench/results").glob("*.jsonl")))]
    cells = [{"cell_type": "markdown", "id": f"part-{i}", "metadata": {}, "source": text} for i, text in enumerate(texts)]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "benchmarks.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    sidebar = folder / "sidebar.yml"
    sidebar.write_text(sidebar.read_text(encoding="utf-8").rstrip() + "\n      - benchmarks.ipynb\n", encoding="utf-8")


def number_folders(sidebar):
    """Give the folders in the sidebar their numbers back, which nbdev leaves out."""
    text = sidebar.read_text(encoding="utf-8")
    for folder in sorted(path.name for path in (ROOT / "nbs").iterdir() if re.match(r"\d\d_", path.name)):
        name = folder[3:]
        text = text.replace(f"- {name}/", f"- {folder}/").replace(f"section: {name}\n", f"section: {int(folder[:2])} {name}\n")
    sidebar.write_text(text, encoding="utf-8")


def page_name(path):
    """The name nbdev gives a page: the notebook's, without its number."""
    return path.with_name(re.sub(r"^\d+[a-zA-Z0-9]*_", "", path.name))


def mend_pages(folder):
    """Copy the pictures that lie outside nbs/ beside the pages that show them; no Markdown in signatures and headings."""
    for notebook in folder.rglob("*.ipynb"):
        source = notebook.read_text(encoding="utf-8")
        up = "../" * len(notebook.relative_to(folder).parent.parts)
        for name in set(PICTURE.findall(source)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        source = PICTURE.sub(lambda match, up=up: up + match[1], source)
        source = SIGNATURE.sub(lambda match: LINK.sub(r"\1", match[0]), source)
        notebook.write_text(DUNDER.sub(r"\1\\\\_\\\\_\2\\\\_\\\\_", source), encoding="utf-8")


def use_page_names(folder):
    """Rename the notebooks to their page names, which Quarto does by itself, and correct the links between them."""
    notebooks = sorted(folder.rglob("*.ipynb"))
    for file in [*notebooks, folder / "sidebar.yml"]:
        source = file.read_text(encoding="utf-8")
        for notebook in notebooks:
            source = source.replace(notebook.name, page_name(notebook).name)
        file.write_text(re.sub(r'^\s*"output-file: .*\\n",\n', "", source, flags=re.MULTILINE), encoding="utf-8")
    for notebook in notebooks:
        notebook.rename(page_name(notebook))


def link_locally(site, url):
    """Make links to the published documentation relative, so that they work wherever the pages lie."""
    for page in site.rglob("*.html"):
        up = "../" * len(page.relative_to(site).parent.parts)
        html = page.read_text(encoding="utf-8")
        html = re.sub(rf'(<a [^>]*href="){re.escape(url)}/?(?=[\w#])', rf"\g<1>{up}", html)
        page.write_text(html, encoding="utf-8")


def keep_offline(site):
    """No fonts from the network in the style sheets, and no links to what has no place on a page, as names with an underscore."""
    for sheet in site.rglob("*.css"):
        css = sheet.read_text(encoding="utf-8")
        sheet.write_text(FONTS.sub("", css), encoding="utf-8")
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r'<a href="[^"#]*#_[^"]*">(<code>.*?</code>)</a>', r"\1", html), encoding="utf-8")


def formula(match):
    """A formula as a picture inside the page, drawn by matplotlib; its TeX is the text for those who cannot see it."""
    tex, drawn = " ".join(unescape(match[2]).strip()[2:-2].split()), BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "formula", "mathtext.fontset": "cm", "svg.id": None}):
        depth = math_to_image(f"${tex}$", drawn, format="svg")
    svg = drawn.getvalue()
    width, height = (float(re.search(rf'<svg[^>]* {side}="([\d.]+)pt"', svg.decode())[1]) / 10 for side in ("width", "height"))
    image = f'<img alt="{match[2]}" src="data:image/svg+xml;base64,{b64encode(svg).decode()}"'
    style = f"width:{width:.2f}em;max-width:100%;vertical-align:{-depth / 10:.2f}em"
    return f'<span class="math {match[1]}">{image} style="{style}"></span>'


def draw_formulas(site):
    """Formulas as pictures in place of scripts from the network that would set them."""
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        if KATEX.search(html):
            page.write_text(FORMULA.sub(formula, KATEX.sub("", html)), encoding="utf-8")


def main():
    config = get_config(path=ROOT)
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    number_folders(ROOT / "nbs/sidebar.yml")
    folder = proc_nbs(n_workers=2, force=True)
    write_benchmarks(folder)
    mend_pages(folder)
    if shutil.which("quarto"):
        subprocess.run(["quarto", "render", "--no-cache"], cwd=folder, check=True)
    else:
        use_page_names(folder)
        smalldocs = [sys.executable, "-m", "smalldocs.cli", "render", "--strict", str(folder)]
        if subprocess.run(smalldocs).returncode:
            sys.exit("the warnings above must be mended first")
    site = ROOT / "_site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(folder / "_site", site)
    for name in ("images", "gif"):  # the renderers copy what Markdown shows, but not what HTML shows
        if (folder / name).exists():
            shutil.copytree(folder / name, site / name, dirs_exist_ok=True)
    shutil.rmtree(folder)
    link_locally(site, config.doc_host + config.doc_baseurl)
    keep_offline(site)
    draw_formulas(site)
    print(f"{len(list(site.rglob('*.html')))} pages: {site / 'index.html'}")


if __name__ == "__main__":
    main()
