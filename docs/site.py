"""Build the documentation in _site/: nbdev prepares the notebooks, Quarto (where it is installed) or smalldocs renders.

nbdev adds the API documentation after each exported cell, hides what `#| hide` hides and turns names in backticks into
links. Nothing is downloaded.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from nbdev.config import get_config
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parent.parent
DUNDER = re.compile(r"(\"### [\w.]*?)__(\w+)__(?=\\n)")  # in a notebook's JSON: a heading such as X.__len__
SIGNATURE = re.compile(r"^\s*\"(?:    |def |\)->).*$", re.MULTILINE)
LINK = re.compile(r"\[(`[^`]+`)\]\([^)]*\)")
PICTURE = re.compile(r"(?:\.\./)+((?:images|gif)/[\w./-]+\.(?:png|gif|svg|jpg))")


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


def main():
    config = get_config(path=ROOT)
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    folder = proc_nbs(n_workers=2, force=True)
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
    print(f"{len(list(site.rglob('*.html')))} pages: {site / 'index.html'}")


if __name__ == "__main__":
    main()
