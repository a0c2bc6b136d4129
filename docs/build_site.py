"""Build the documentation in _site/: nbdev prepares the notebooks, Sphinx with MyST-NB renders them. Nothing is downloaded.

nbdev adds the API documentation after each exported cell, hides what `#| hide` hides and links names in backticks. Here its cells
become the pages that MyST-NB reads (docs/stage.py), with pages of their own for the API, the data and the benchmarks.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import write_benchmarks
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs
from stage import stage_notebooks, write_api_pages, write_data_pages

ROOT = Path(__file__).resolve().parent.parent


def main():
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    processed = proc_nbs(n_workers=2, force=True)
    source = processed / "pages"
    shutil.copytree(ROOT / "docs/site", source)
    shutil.copyfile(ROOT / "llms.txt", source / "llms.txt")
    for name in ("images", "gif"):
        shutil.copytree(ROOT / name, source / name)
    stage_notebooks(processed, source)
    write_api_pages(source)
    write_data_pages(source)
    write_benchmarks(source)
    site = ROOT / "_site"
    shutil.rmtree(site, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-d", processed / "doctrees"]
    if subprocess.run([*map(str, sphinx), str(source), str(site)]).returncode:
        sys.exit("the warnings above must be mended first")
    (site / "_static/webpack-macros.html").unlink()  # a template of the theme
    shutil.rmtree(processed)
    shutil.rmtree(ROOT / "jupyter_execute", ignore_errors=True)  # written by MyST-NB
    print(f"{len(list(site.rglob('*.html')))} pages: {site / 'index.html'}")


if __name__ == "__main__":
    main()
