"""The documentation as a reader meets it: every internal link, picture and anchor leads somewhere; pages are quiet and offline."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "_site", "_proc", "demo", "build", "dist", "__pycache__", "*.egg-info", ".*_cache")


class Page(HTMLParser):
    """The addresses that a page uses and the anchors that it offers."""

    def __init__(self, html):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id"), found.get("name") if tag == "a" else None} - {None}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


def broken_links(site):
    """Addresses on the pages of a site that lead to no file or to no anchor."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a copy of the project."""
    copy = tmp_path_factory.mktemp("documentation") / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    done = subprocess.run(
        [sys.executable, "docs/build_site.py"], cwd=copy, env={**os.environ, **OFFLINE, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return copy / "_site"


def test_the_checker_finds_what_is_broken(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">1</a><a href="b.html#gone">2</a><img src="no.png"><a href="https://x.org/n">3</a>')
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1><a href="a.html">back</a><a href="#nowhere">4</a>')
    assert broken_links(tmp_path) == ["a.html: b.html#gone", "a.html: no.png", "b.html: #nowhere"]


def test_every_internal_link_leads_somewhere(site):
    assert broken_links(site) == []


def test_every_notebook_has_a_page_of_its_own(site):
    notebooks = [path.relative_to(ROOT / "nbs") for path in (ROOT / "nbs").rglob("*.ipynb") if not re.search(r"/[._]", str(path))]
    pages = {path.relative_to(site).with_suffix(".ipynb") for path in site.rglob("*.html")}
    wanted = {path for path in notebooks if path.name != "index.ipynb"} | {Path("get_started.ipynb")}
    assert len(wanted) > 60 and wanted <= pages


def test_every_public_name_is_in_the_api_and_in_the_book(site):
    """The table of each chapter links an entry of the book for each class and function that the package hands on."""
    api = "".join(path.read_text(encoding="utf-8") for path in sorted((site / "api").glob("*.html")))
    linked = set(re.findall(r'href="\.\./[^"#]+\.html#(elasticc_hc\.[\w.]+)"', api))
    names = {f"elasticc_hc.{name}" for name in ("taxonomy.taxonomy.Taxonomy", "classification.classifier.HierarchicalClassifier",
             "lightcurves.lightcurves.LightCurves", "evaluation.report.evaluate", "classification.runs.train")}  # fmt: skip
    assert names <= linked and len(linked) > 200
    assert "elasticc_hc.classification.classifier.HierarchicalClassifier.predict" in Page(
        (site / "09_classification/03_classifier.html").read_text(encoding="utf-8")
    ).anchors


def test_benchmark_pages_show_every_file(site):
    files = sorted((ROOT / "bench/results").glob("*.jsonl"))
    assert len(files) > 5
    for path in files:
        row = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        page = (site / f"benchmarks/{path.stem}.html").read_text(encoding="utf-8")
        assert next(name for name in row if name != "date") in page, path.name
    front = (site / "benchmarks.html").read_text(encoding="utf-8")
    assert all(f'href="benchmarks/{path.stem}.html"' in front for path in files) and front.count(".svg") >= 2


def test_formulas_are_mathml(site):
    page = (site / "06_loss/02_loss.html").read_text(encoding="utf-8")
    assert page.count("<math") >= 5 and "MathJax" not in page


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on the loopback."""
    handler = partial(QuietHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *_):
        pass


LOOKED_AT = ["index.html", "book.html", "09_classification/03_classifier.html", "api/09_classification.html", "06_loss/02_loss.html",
             "benchmarks.html", "benchmarks/quality_plasticc.html", "data/dictionary.html", "tutorials/faq.html"]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_quiet_and_offline(site, address, width, scheme, chromium):
    """No console error, no request to another machine, no sideways scrolling on a phone."""
    page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    errors, requests, wide = [], set(), []
    page.on("console", lambda message: errors.append(f"{page.url}: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    page.on("request", lambda request: requests.add(request.url))
    every = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    for name in every if (width, scheme) == (1280, "light") else LOOKED_AT:
        page.goto(f"{address}/{name}")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"):
            wide.append(name)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert errors == [] and wide == [] and all(request.startswith((address, "data:", "blob:")) for request in requests)


def test_search_finds_and_is_legible(address, chromium):
    """Results in dark mode: light letters on a dark ground."""
    page = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark").new_page()
    page.goto(f"{address}/search.html?q=calibration")
    result = page.locator("#search-results li a").first
    result.wait_for()
    page.wait_for_function("document.querySelectorAll('#search-results li').length > 5")
    colours = """(link) => [getComputedStyle(link).color, getComputedStyle(document.body).backgroundColor]"""
    lightness = [sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765 for colour in page.evaluate(colours, result.element_handle())]
    assert lightness[0] - lightness[1] > 0.35


def test_citation_agrees_with_the_settings():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    settings = dict(re.findall(r"^(\w+) = (.*)$", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.M))
    assert citation["version"] == settings["version"] and citation["repository-code"] == settings["git_url"]
    assert citation["license"] == "Apache-2.0" and {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_workflows_run_what_the_repository_has():
    import yaml

    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
        commands = [step["run"] for step in steps if "run" in step]
        assert text.startswith("# Not run yet") and commands
        for command in commands:
            target = re.fullmatch(r"make (\w+)", command)
            made = target and re.search(rf"^{target[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
            assert made or (ROOT / command).is_file(), command
