"""Data sets fetched by name: the sample, what the table of sets demands of an archive, and the first files of every model."""

import hashlib
import json
import re
import shlex
import shutil
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import elasticc_hc
from elasticc_hc.cli import main
from elasticc_hc.conversion.downloads import (
    DATASETS,
    Dataset,
    download,
    first_pairs,
    list_models,
    list_shards,
    names_in_listing,
    read_listing,
)
from elasticc_hc.conversion.snana_to_parquet import convert

REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "elasticc2_train_01_1percent"
QUICK = {"pause": 0.001, "timeout": 1, "attempts": 2}
RELEASE = "ELASTICC2_TRAIN_02"
MODELS = {"KN_K17": "NONIaMODEL0", "SNIa-SALT3": "SNIaMODEL0", "SNIb+HostXT_V19": "NONIaMODEL0"}


class Portal(SimpleHTTPRequestHandler):
    """Serves a folder and lists it as HTML; `pages`, `gone`, `busy` and `cut` of the server replace, hide, delay or cut off answers."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, self.close_connection = self.server, True
        server.asked.append(self.path)
        if self.path in server.gone:
            self.send_error(404)
        elif server.busy.pop(self.path, None):
            self.send_error(503)
        elif (page := server.pages.get(self.path)) is not None:
            self.answer(page.encode(), len(page.encode()))
        elif self.path in server.cut:
            content = Path(self.translate_path(self.path)).read_bytes()
            self.answer(content[: len(content) // 2], len(content))
        else:
            super().do_GET()

    def answer(self, content, promised):
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def portal(tmp_path, monkeypatch):
    """A server of a folder `portal`, which is still empty."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "portal"
    folder.mkdir()
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Portal, directory=folder))
    served.folder, served.asked, served.pages, served.gone, served.busy, served.cut = folder, [], {}, set(), {}, set()
    served.url, served.daemon_threads = f"http://127.0.0.1:{served.server_port}/", True
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def file_name(model, number, kind):
    return f"{RELEASE}_{model}/{RELEASE}_{MODELS[model]}-{number:04d}_{kind}.FITS.gz"


@pytest.fixture
def shards(portal, monkeypatch):
    """The portal with three pairs of each of three models, as the set `elasticc2`."""
    for model in MODELS:
        for number in (10, 2, 1):
            for kind in ("HEAD", "PHOT"):
                path = portal.folder / file_name(model, number, kind)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(f"{model} {number} {kind} ".encode() * 500)
        (portal.folder / f"{RELEASE}_{model}" / f"{RELEASE}_{model}.README").touch()
    (portal.folder / f"{RELEASE}.tar.bz2").touch()
    monkeypatch.setitem(DATASETS, "elasticc2", replace(DATASETS["elasticc2"], url=f"{portal.url}{RELEASE}.tar.bz2"))
    return portal


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wanted(*numbers):
    return sorted(file_name(model, number, kind) for model in MODELS for number in numbers for kind in ("HEAD", "PHOT"))


def one_line(error, call, *args, **kwargs):
    """The one line that a call fails with."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def command(monkeypatch, capsys, words):
    """Exit code, output and errors of `elasticc-hc` with these words."""
    monkeypatch.setattr(sys, "argv", ["elasticc-hc", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    return code, *capsys.readouterr()


# --- the sample ---


def serve_sample(portal, monkeypatch, models, **known):
    """Pack folders of models below `elasticc2_test_data/`, and let the set `sample` be this archive."""
    path = portal.folder / "elasticc2_test_data.tar.bz2"
    with tarfile.open(path, "w:bz2") as tar:
        for folder in models:
            tar.add(folder, f"elasticc2_test_data/{folder.name}")
    record = replace(DATASETS["sample"], url=f"{portal.url}{path.name}", **{"size": path.stat().st_size, **known})
    monkeypatch.setitem(DATASETS, "sample", record)
    return path


@pytest.fixture
def simulated(tmp_path):
    elasticc_hc.simulate(tmp_path / "simulated", 3, ["KN_K17", "SNIb-Templates"])
    return sorted((tmp_path / "simulated").iterdir())


def test_what_is_known_of_the_sample():
    sample = DATASETS["sample"]
    assert re.fullmatch(r"https://raw\.githubusercontent\.com/LSSTDESC/FASTDB/[0-9a-f]{40}/tests/elasticc2_test_data\.tar\.bz2", sample.url)
    assert sample.size == 3_165_951 and sample.licence == "BSD-3-Clause-LBNL" and not sample.unpacked
    assert all(dataset.about and dataset.licence for dataset in DATASETS.values())


def test_sample_from_the_real_files(portal, monkeypatch, tmp_path):
    if not REAL.is_dir():
        pytest.skip("the real ELAsTiCC 2 files (../shared/data) are not here")
    serve_sample(portal, monkeypatch, sorted(REAL.glob("ELASTICC2_*")))
    models = download("sample", tmp_path / "data")
    report = convert(models, tmp_path / "data/converted")
    assert {name: counts["objects_out"] for name, counts in report["models"].items()} == {"KN_K17": 47, "SNIb-Templates": 272}
    assert report["total"]["observations_out"] == 45_274


def test_sample_command_and_the_commands_that_it_prints(portal, monkeypatch, capsys, tmp_path, simulated):
    serve_sample(portal, monkeypatch, simulated)
    monkeypatch.chdir(tmp_path)
    code, said, _ = command(monkeypatch, capsys, ["download", "sample", "data"])
    hints = [shlex.split(line)[1:] for line in said.splitlines() if line.startswith("  elasticc-hc ")]
    assert code == 0 and [words[0] for words in hints] == ["convert", "predict"] and "no checksum is published for this archive" in said
    for words, expected in zip(hints, ("6 objects", "3 objects classified"), strict=True):
        code, said, complained = command(monkeypatch, capsys, words)
        assert code == 0 and expected in said, complained
    assert Path("predictions.parquet").exists()


def test_sample_of_another_size_is_refused(portal, monkeypatch, capsys, tmp_path, simulated):
    serve_sample(portal, monkeypatch, simulated, size=3_165_951)
    code, _, complained = command(monkeypatch, capsys, ["download", "sample", tmp_path / "data"])
    assert code == 1 and complained.count("\n") == 1 and "bytes, not 3,165,951" in complained and portal.url in complained
    assert files_of(tmp_path / "data") == []


def test_known_checksum_refuses_another_content(portal, monkeypatch, tmp_path, simulated):
    path = serve_sample(portal, monkeypatch, simulated)
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DATASETS, "sample", replace(DATASETS["sample"], sha256="0" * 64))
    assert "not the one given, 0000" in one_line(ValueError, download, "sample", tmp_path / "data")
    assert files_of(tmp_path / "data") == []
    monkeypatch.setitem(DATASETS, "sample", replace(DATASETS["sample"], sha256=good))
    models = download("sample", tmp_path / "data")
    record = json.loads((tmp_path / "data/elasticc2_test_data.tar.bz2.json").read_text())
    assert record["sha256_is"] == "given" and record["sha256"] == good
    asked = len(portal.asked)
    (tmp_path / "data/elasticc2_test_data.tar.bz2").unlink()
    assert download("sample", tmp_path / "data") == models and len(portal.asked) == asked, "the folder is enough"


def test_changed_archive_on_the_disk(portal, monkeypatch, tmp_path, simulated):
    serve_sample(portal, monkeypatch, simulated)
    shutil.rmtree(download("sample", tmp_path / "data"))
    path = tmp_path / "data/elasticc2_test_data.tar.bz2"
    path.write_bytes(path.read_bytes()[:-1])
    line = one_line(ValueError, download, "sample", tmp_path / "data")
    assert str(path) in line and "bytes, not" in line and "remove it and run it again" in line


# --- the first files of every model ---


def test_first_pairs_of_every_model(shards, tmp_path):
    seen = []
    models = download("elasticc2", tmp_path / "data", shards=1, progress=lambda *how_far: seen.append(how_far), **QUICK)
    assert models == tmp_path / "data" / RELEASE and files_of(models) == wanted(1)
    assert all((models / name).read_bytes() == (shards.folder / name).read_bytes() for name in wanted(1))
    assert seen == [(done, 6, "files fetched") for done in range(1, 7)]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [RELEASE, f"{RELEASE}.shards.json"]
    record = json.loads((tmp_path / f"data/{RELEASE}.shards.json").read_text())
    assert record["pairs"] == 1 and sorted(record["files"]) == wanted(1)
    for name, known in record["files"].items():
        content = (models / name).read_bytes()
        assert known["sha256"] == hashlib.sha256(content).hexdigest() and known["bytes"] == len(content)
        assert known["url"].startswith(shards.url) and "none is published" in known["sha256_is"]


def test_what_is_there_is_not_fetched_again(shards, tmp_path):
    download("elasticc2", tmp_path, shards=2, **QUICK)
    asked = len(shards.asked)
    models = download("elasticc2", tmp_path, shards=1, **QUICK)
    assert len(shards.asked) == asked and files_of(models) == wanted(1, 2)
    (models / wanted(2)[0]).unlink()
    download("elasticc2", tmp_path, shards=2, **QUICK)
    assert len(shards.asked) == asked + 1 and files_of(models) == wanted(1, 2)
    download("elasticc2", tmp_path, shards=40, **QUICK)
    assert files_of(models) == wanted(1, 2, 10), "as many as there are"


def test_files_are_compared_with_the_record(shards, tmp_path):
    models = download("elasticc2", tmp_path, shards=1, **QUICK)
    damaged = models / wanted(1)[3]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    line = one_line(ValueError, download, "elasticc2", tmp_path, shards=1, **QUICK)
    assert str(damaged) in line and "not the one obtained on" in line and "remove it" in line
    damaged.unlink()
    (shards.folder / wanted(1)[3]).write_bytes(content + b"!")
    line = one_line(ValueError, download, "elasticc2", tmp_path, shards=1, **QUICK)
    assert line.startswith(shards.url) and "not the one obtained on" in line and not damaged.exists()


def test_real_models_convert(portal, monkeypatch, tmp_path, simulated):
    for path in (path for folder in simulated for path in folder.glob("*.FITS.gz")):
        target = portal.folder / f"{path.parent.name}/{path.name}".replace("SYNTH", "TRAIN_02")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    monkeypatch.setitem(DATASETS, "elasticc2", Dataset(f"{portal.url}{RELEASE}.tar.bz2", unpacked=True))
    report = convert(download("elasticc2", tmp_path / "data", shards=1, **QUICK), tmp_path / "converted")
    assert {name: counts["objects_out"] for name, counts in report["models"].items()} == {"KN_K17": 3, "SNIb-Templates": 3}


@pytest.mark.parametrize("between", [RELEASE, f"{RELEASE}_unpacked"])
def test_models_one_folder_further_down(shards, tmp_path, between):
    inner = shards.folder / between
    inner.mkdir()
    for model in list(MODELS)[1:]:
        shutil.move(shards.folder / f"{RELEASE}_{model}", inner)
    assert files_of(download("elasticc2", tmp_path / "data", shards=1, **QUICK)) == wanted(1)


def test_folders_of_another_kind_are_passed_over(shards, tmp_path):
    for name in ("ELASTICC2_TRAIN_01_KN_B19", f"{RELEASE}_misc", "docs"):
        (shards.folder / name).mkdir()
    (shards.folder / "ELASTICC2_TRAIN_01_KN_B19" / "a-0001_HEAD.FITS.gz").touch()
    assert files_of(download("elasticc2", tmp_path / "data", shards=1, **QUICK)) == wanted(1)


APACHE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN"><html><head><title>Index of /pub</title></head><body><pre>
<a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a> <a href="?C=S;O=A">Size</a><hr>
<img src="/icons/back.gif" alt="[DIR]"> <a href="/pub/">Parent Directory</a>                             -
{}
<a href="../{name}">up</a> <a href="../../../../{name}">up</a> <a href="%2e%2e%2f{name}">up</a> <a href="..%5C{name}">up</a>
<a href="/{name}">absolute</a> <a href="//evil.invalid/{name}">host</a> <a href="http://evil.invalid/{name}">host</a>
<a href="sub/{name}">below</a> <a href="file:{name}">scheme</a> <a href="{name}?x=1">query</a> <a name="x">anchor</a> <a href>empty</a>
</pre></body></html>"""


def apache(*entries):
    """A page as Apache writes it, with links that must be ignored beside these entries."""
    rows = "\n".join(f'<img src="/icons/x.gif" alt="[   ]"> <a href="{name}">{name}</a>  2023-10-01 10:00  2.1M' for name in entries)
    return APACHE.format(rows, name="evil-0000_HEAD.FITS.gz")


def test_apache_listing(shards, tmp_path):
    shards.pages["/"] = apache(*(f"{RELEASE}_{model}/" for model in MODELS), f"{RELEASE}.tar.bz2")
    shards.pages[f"/{RELEASE}_KN_K17/"] = apache(*(Path(name).name for name in wanted(10, 2, 1) if "KN_K17" in name))
    assert files_of(download("elasticc2", tmp_path / "data", shards=2, **QUICK)) == wanted(1, 2)
    assert not any("evil" in path for path in shards.asked)


def test_half_a_pair(shards, tmp_path):
    lost = shards.folder / file_name("KN_K17", 2, "PHOT")
    lost.unlink()
    assert len(files_of(download("elasticc2", tmp_path / "one", shards=1, **QUICK))) == 6, "the first pair is whole"
    line = one_line(ValueError, download, "elasticc2", tmp_path / "two", shards=2, **QUICK)
    assert line.startswith(f"{shards.url}{file_name('KN_K17', 2, 'HEAD')}: its PHOT file is not listed")
    assert files_of(tmp_path / "two") == []


def test_empty_listings(shards, tmp_path):
    shards.pages[f"/{RELEASE}_KN_K17/"] = apache()
    assert f"/{RELEASE}_KN_K17/: lists no *_HEAD.FITS.gz" in one_line(ValueError, download, "elasticc2", tmp_path, shards=1, **QUICK)
    shards.pages["/"] = apache("README")
    assert one_line(ValueError, download, "elasticc2", tmp_path, shards=1, **QUICK).startswith(f"{shards.url}: lists no folder {RELEASE}_*")
    assert not (tmp_path / RELEASE).exists()


def test_listing_that_does_not_come(shards, tmp_path):
    shards.pages["/"] = apache(f"{RELEASE}_KN_K17/")[:-20]
    assert "is not complete; run it again" in one_line(OSError, read_listing, shards.url, **QUICK)
    del shards.pages["/"]
    shards.busy["/"] = True
    assert f"{RELEASE}_KN_K17/" in names_in_listing(read_listing(shards.url, **QUICK)), "busy once"
    shards.gone.add("/")
    assert "the server answers 404" in one_line(OSError, download, "elasticc2", tmp_path / "data", shards=1, **QUICK)
    assert "refused" in one_line(OSError, read_listing, "http://127.0.0.1:9/", **QUICK)


def test_truncated_file(shards, tmp_path):
    broken = wanted(1)[2]
    shards.cut.add("/" + broken.replace("+", "%2B"))
    line = one_line(OSError, download, "elasticc2", tmp_path / "data", shards=1, **QUICK)
    assert "run it again to go on" in line and Path(broken).name in line
    models = tmp_path / "data" / RELEASE
    assert [name for name in files_of(models) if not Path(name).name.startswith(".")] == wanted(1)[:2], "those before it are complete"
    shards.cut.clear()
    shards.asked.clear()
    assert files_of(download("elasticc2", tmp_path / "data", shards=1, **QUICK)) == wanted(1)
    assert not {f"/{name}" for name in wanted(1)[:2]} & set(shards.asked), "complete ones are not fetched again"


def test_file_that_vanishes(shards, tmp_path):
    lost = [file_name("SNIa-SALT3", 1, kind) for kind in ("HEAD", "PHOT")]
    shards.gone.add(f"/{lost[1]}")
    line = one_line(OSError, download, "elasticc2", tmp_path / "data", shards=1, **QUICK)
    assert line == f"{shards.url}{lost[1]}: the server answers 404 Not Found"
    assert lost[1] not in files_of(tmp_path / "data" / RELEASE)
    for name in lost:
        (shards.folder / name).unlink()
    found = files_of(download("elasticc2", tmp_path / "data", shards=1, **QUICK))
    assert {file_name("SNIa-SALT3", 2, kind) for kind in ("HEAD", "PHOT")} <= set(found), "the first that are listed now"


def test_limit_of_all_files_together(shards, tmp_path):
    line = one_line(ValueError, download, "elasticc2", tmp_path / "data", shards=1, most_bytes=20_000, **QUICK)
    assert line.startswith(shards.url) and "allowed" in line


def test_a_part_is_not_taken_for_the_whole(shards, tmp_path):
    download("elasticc2", tmp_path / "part", shards=1, **QUICK)
    assert "choose another folder for the whole set" in one_line(FileExistsError, download, "elasticc2", tmp_path / "part", **QUICK)
    (tmp_path / "whole" / RELEASE).mkdir(parents=True)
    assert "was not fetched with shards" in one_line(FileExistsError, download, "elasticc2", tmp_path / "whole", shards=1, **QUICK)
    assert shards.asked.count(f"/{RELEASE}.tar.bz2") == 0


@pytest.mark.parametrize("what, options, said", [
    ("sample", {"shards": 1}, "sample: shards can be fetched for elasticc2 only"),
    ("http://127.0.0.1:9/set.tar", {"shards": 1}, "http://127.0.0.1:9/set.tar: shards can be fetched for elasticc2 only"),
    ("elasticc2", {"shards": 0}, "shards is 0; give a whole number, 1 or more"),
    ("elasticc2", {"shards": 1.5}, "shards is 1.5; give a whole number"),
    ("elasticc2", {"shards": 1, "sha256": "0" * 64}, "a sha256 is that of an archive"),
])  # fmt: skip
def test_shards_that_cannot_be(tmp_path, what, options, said):
    assert one_line(ValueError, download, what, tmp_path / "data", **options).startswith(said)
    assert not (tmp_path / "data").exists()


def test_shards_command(shards, monkeypatch, capsys, tmp_path):
    data = tmp_path / "data"
    code, said, complained = command(monkeypatch, capsys, ["download", "elasticc2", data, "--shards", 2])
    assert code == 0, complained
    assert "about 0.4 GB for the first 2 file pairs of 32 models" in said and "downloading: 12 of 12 files fetched" in said
    assert f"6 file pairs of 3 models in {data / RELEASE}; next: elasticc-hc convert {data / RELEASE}" in said
    assert "no checksum is published for these files" in said and f"{RELEASE}.shards.json" in said
    for words, expected in {"elasticc2 --shards 0": 2, "sample --shards 1": 1, f"elasticc2 --url {shards.url}a.tar --shards 1": 1}.items():
        what, *others = words.split()
        code, _, complained = command(monkeypatch, capsys, ["download", what, tmp_path / "new", *others])
        assert code == expected and (code == 2 or complained.count("\n") == 1), complained
        assert not (tmp_path / "new").exists()


def test_help_has_an_example_of_each(monkeypatch, capsys):
    code, said, _ = command(monkeypatch, capsys, ["download", "--help"])
    examples = ["download sample data", "download elasticc2 data --shards 1", "download elasticc2 data"]
    assert code == 0 and [line.strip() for line in said.splitlines()[-3:]] == [f"elasticc-hc {example}" for example in examples]


# --- the parser ---

TARGETS = st.one_of(st.text(max_size=30), st.text(alphabet="ab._-+/\\:%2eE5cCfF0&#46;?\"'< >", max_size=30))
LINKS = st.lists(TARGETS).map(lambda links: "".join(f'<a href="{link}">x</a>' for link in links))
PAGES = st.one_of(st.text(), st.text(alphabet="<>!/[]-aA href=\"'&#;%"), LINKS)


@given(PAGES)
def test_no_name_leads_elsewhere(html):
    names = names_in_listing(html)
    assert len(names) == len(set(names))
    for name in names:
        plain = name.removesuffix("/")
        assert plain and not plain.startswith(".") and plain.isascii() and plain.isprintable()
        assert "/" not in plain and "\\" not in plain and ".." not in plain and ":" not in plain


@given(st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_+-]{0,20}(\.FITS\.gz)?/?", fullmatch=True), unique=True), PAGES)
def test_plain_names_are_found(names, noise):
    page = "".join(f'<A HREF="{name.replace("+", "%2B")}">{name}</A>' for name in names)
    assert names_in_listing(page + noise)[: len(names)] == names


@pytest.mark.parametrize("part", ["<a ", "<a href='", '<a href="x"', "<!--", "<![CDATA[", "</a", "&#"])
def test_a_broken_page_takes_no_time(part):
    start = time.monotonic()
    assert set(names_in_listing(part * (1_000_000 // len(part)) + "</html>")) <= {"x"}
    assert time.monotonic() - start < 10


@given(st.sets(st.integers(0, 99_999), min_size=1), st.integers(1, 50), st.randoms())
def test_pairs_are_those_with_the_smallest_numbers(numbers, count, random):
    names = [f"SET_NONIaMODEL0-{number:04d}_{kind}.FITS.gz" for number in numbers for kind in ("HEAD", "PHOT")]
    random.shuffle(names)
    found = first_pairs(names, count, "")
    assert [int(re.search(r"-(\d+)_", name)[1]) for name in found[::2]] == sorted(numbers)[:count]
    assert [name.replace("PHOT", "HEAD") for name in found[1::2]] == found[::2]


def test_listing_of_pythons_server(shards):
    assert sorted(list_models(shards.url, RELEASE, **QUICK)) == [f"{RELEASE}_{model}" for model in MODELS]
    plan = list_shards(shards.url, RELEASE, 1, **QUICK)
    assert sorted(plan) == wanted(1) and plan[wanted(1)[-1]].endswith("SNIb%2BHostXT_V19/ELASTICC2_TRAIN_02_NONIaMODEL0-0001_PHOT.FITS.gz")
