"""Downloading against a server that breaks off, stalls and lies, and unpacking archives that mean harm."""

import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from elasticc_hc.cli import main
from elasticc_hc.conversion import archives as module
from elasticc_hc.conversion.archives import fetch_archive, fetch_file, unpack
from elasticc_hc.conversion.downloads import DATASETS, download

QUICK = {"pause": 0.001, "timeout": 0.3}


def packed(seed=b"a", files=3, size=120_000):
    """A tar.gz of files that do not compress."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for i in range(files):
            header = tarfile.TarInfo(f"SET_KN_K17/SET_{i:04d}_HEAD.FITS.gz")
            header.size = size
            tar.addfile(header, io.BytesIO((seed + os.urandom(size))[:size]))
    return held.getvalue()


class Server(BaseHTTPRequestHandler):
    """Answers as the test says; knows ranges, and notes what it was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        plan = self.server.plan
        self.server.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.close_connection = True
        if (answer := plan.get("answers", {}).pop(len(self.server.asked), plan.get("answer"))) is not None:
            self.send_error(answer)
            return
        content, etag = plan["content"], plan.get("etag", '"v1"')
        start = 0
        wanted, only_if = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and plan.get("ranges", True) and (plan.get("careless") or not only_if or only_if in (etag, plan.get("changed"))):
            start = int(wanted[len("bytes=") : -1])
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + plan.get('shift', 0)}-{len(content) - 1}/{len(content)}")
        if etag:
            self.send_header("ETag", etag)
        if "changed" in plan:
            self.send_header("Last-Modified", plan["changed"])
        if plan.get("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
        elif plan.get("length", True):
            self.send_header("Content-Length", str(len(content) - start + plan.get("lie", 0)))
        self.end_headers()
        self.server.plan = plan.get("next", plan)
        self.send_body(content[start:], plan)

    def send_body(self, body, plan):
        body = body[: plan.get("breaks_after")]
        if plan.get("chunked"):
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[i : i + 9000] for i in range(0, len(body), 9000)))
            body += b"" if plan.get("breaks_after") else b"0\r\n\r\n"
        try:
            self.wfile.write(body)
            self.wfile.flush()
            if plan.get("stalls"):
                time.sleep(1)
            elif plan.get("resets"):
                self.connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: a reset instead of an end
        except OSError:
            pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    served.asked, served.plan, served.daemon_threads = [], {"content": packed()}, True
    served.url = f"http://127.0.0.1:{served.server_port}/pub/SET.tar.gz"
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


DONE = ["SET", "SET.tar.gz", "SET.tar.gz.json"]


# --- the connection ---


def test_plain(server, tmp_path):
    seen = []
    assert download(server.url, tmp_path, progress=lambda *how_far: seen.append(how_far), **QUICK) == tmp_path / "SET"
    assert names(tmp_path) == DONE and len(list((tmp_path / "SET/SET_KN_K17").iterdir())) == 3
    assert (tmp_path / "SET.tar.gz").read_bytes() == server.plan["content"]
    assert {label for *_, label in seen} == {"MB fetched", "MB unpacked"}
    assert len(server.asked) == 1 and download(server.url, tmp_path) and len(server.asked) == 1, "nothing to do the second time"


DATED = {"etag": None, "changed": "Mon, 01 Jan 2024 00:00:00 GMT"}


@pytest.mark.parametrize("how", [{}, {"stalls": True}, {"resets": True}, {"chunked": True}, DATED])
def test_goes_on_after_a_break(server, tmp_path, how):
    whole = {key: value for key, value in how.items() if key not in ("stalls", "resets")}
    rest = {"content": server.plan["content"], **whole}
    again = {**rest, "breaks_after": 100_000, **how, "next": rest}
    server.plan = {"content": rest["content"], "breaks_after": 200_000, **how, "next": again}
    download(server.url, tmp_path, **QUICK)
    assert names(tmp_path) == DONE and (tmp_path / "SET.tar.gz").read_bytes() == rest["content"]
    asked = [wanted for _, wanted, _ in server.asked]
    if how.get("chunked"):
        assert asked[0] is None and len(asked) >= 3
    elif not how.get("resets"):  # a reset may swallow what was still on its way
        assert asked == [None, "bytes=200000-", "bytes=300000-"]
    assert all(only_if for _, wanted, only_if in server.asked if wanted)


def test_goes_on_in_a_later_call(server, tmp_path):
    content = server.plan["content"]
    server.plan = {"content": content, "breaks_after": 150_000, "next": {"content": content, "answer": 503}}
    with pytest.raises(OSError, match="kept: run it again to go on"):
        download(server.url, tmp_path, attempts=2, **QUICK)
    assert names(tmp_path) == [".SET.tar.gz.note.json", ".SET.tar.gz.partial"], "nothing under a final name"
    server.plan, server.asked[:] = {"content": content}, []
    download(server.url, tmp_path, **QUICK)
    assert server.asked[0][1] == "bytes=150000-" and names(tmp_path) == DONE


def test_complete_but_not_yet_named(server, tmp_path):
    path = tmp_path / "SET.tar.gz"
    fetch_file(server.url, path, **QUICK)
    assert not path.exists()
    fetch_archive(server.url, tmp_path, **QUICK)
    assert path.exists() and len(server.asked) == 1


def test_server_without_ranges(server, tmp_path):
    content = server.plan["content"]
    server.plan = {"content": content, "breaks_after": 200_000, "next": {"content": content, "ranges": False}}
    download(server.url, tmp_path, **QUICK)
    assert (tmp_path / "SET.tar.gz").read_bytes() == content and server.asked[1][1] == "bytes=200000-"


def test_no_version_no_resuming(server, tmp_path):
    content = server.plan["content"]
    server.plan = {"content": content, "etag": None, "breaks_after": 200_000, "next": {"content": content, "etag": None}}
    download(server.url, tmp_path, **QUICK)
    assert [wanted for _, wanted, _ in server.asked] == [None, None] and names(tmp_path) == DONE


@pytest.mark.parametrize("careless", [False, True], ids=["server compares", "server does not compare"])
def test_file_changes_between_attempts(server, tmp_path, careless):
    new = packed(b"b")
    server.plan = {"content": server.plan["content"], "breaks_after": 200_000,
                   "next": {"content": new, "etag": '"v2"', "careless": careless}}  # fmt: skip
    download(server.url, tmp_path, **QUICK)
    assert (tmp_path / "SET.tar.gz").read_bytes() == new


def test_answer_to_another_range(server, tmp_path):
    content = server.plan["content"]
    server.plan = {"content": content, "breaks_after": 200_000, "next": {"content": content, "shift": 7, "next": {"content": content}}}
    download(server.url, tmp_path, **QUICK)
    assert (tmp_path / "SET.tar.gz").read_bytes() == content


def test_more_promised_than_sent(server, tmp_path):
    server.plan["lie"] = 1000
    start = time.monotonic()
    with pytest.raises(OSError, match="SET.tar.gz: "):
        download(server.url, tmp_path, attempts=3, **QUICK)
    assert time.monotonic() - start < 20 and not {"SET", "SET.tar.gz"} & set(names(tmp_path))


def test_less_promised_than_sent(server, tmp_path):
    server.plan["lie"] = -1000
    with pytest.raises(ValueError, match="damaged"):
        download(server.url, tmp_path, **QUICK)
    assert "SET" not in names(tmp_path)


def test_no_length(server, tmp_path):
    server.plan["length"] = False
    with pytest.raises(ValueError, match="how long the file is"):
        download(server.url, tmp_path, **QUICK)
    assert not {"SET", "SET.tar.gz"} & set(names(tmp_path))


def test_busy_server_answers_in_the_end(server, tmp_path):
    server.plan["answers"] = {1: 503, 2: 429}
    download(server.url, tmp_path, **QUICK)
    assert names(tmp_path) == DONE and len(server.asked) == 3


def test_not_found_ends_at_once(server, tmp_path):
    server.plan["answer"] = 404
    with pytest.raises(OSError, match="answers 404"):
        download(server.url, tmp_path, **QUICK)
    assert len(server.asked) == 1 and names(tmp_path) == []


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:9/SET.tar.gz", tmp_path, attempts=2, **QUICK)


def test_too_large(server, tmp_path):
    with pytest.raises(ValueError, match="allowed"):
        download(server.url, tmp_path, most_bytes=300_000, **QUICK)
    server.plan["chunked"] = True
    with pytest.raises(ValueError, match="allowed"):
        download(server.url, tmp_path, most_bytes=300_000, **QUICK)
    assert not {"SET", "SET.tar.gz"} & set(names(tmp_path))


def test_disk_is_nearly_full(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(0, 0, 500_000))
    with pytest.raises(OSError, match="no room: 0.0007[0-9]* GB needed, to fetch and to unpack, 0.0005 GB free"):
        download(server.url, tmp_path, **QUICK)
    assert not {"SET", "SET.tar.gz"} & set(names(tmp_path))


def test_one_at_a_time(server, tmp_path):
    content = server.plan["content"]
    server.plan = {"content": content, "breaks_after": 1000, "stalls": True, "next": {"content": content}}
    first = threading.Thread(target=download, args=(server.url, tmp_path), kwargs={"pause": 2, "timeout": 0.3})
    first.start()
    while not server.asked:
        time.sleep(0.01)
    with pytest.raises(OSError, match="another run"):
        download(server.url, tmp_path, **QUICK)
    first.join()
    assert names(tmp_path) == DONE


# --- the checksum ---


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match="not the one given, 0000"):
        download(server.url, tmp_path, sha256="0" * 64, **QUICK)
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="64 hexadecimal"):
        download(server.url, tmp_path, sha256="abc", **QUICK)


def test_checksum_is_written_down_and_held_against_later_files(server, tmp_path):
    download(server.url, tmp_path, **QUICK)
    record = json.loads((tmp_path / "SET.tar.gz.json").read_text())
    assert "none is published" in record["sha256_is"] and record["bytes"] == len(server.plan["content"])
    download(server.url, tmp_path, sha256=record["sha256"].upper(), **QUICK)
    assert json.loads((tmp_path / "SET.tar.gz.json").read_text())["sha256_is"] == "given"
    (tmp_path / "SET.tar.gz").unlink()
    shutil.rmtree(tmp_path / "SET")
    server.plan = {"content": packed(b"c"), "etag": '"v3"'}
    with pytest.raises(ValueError, match="not the one obtained on"):
        download(server.url, tmp_path, **QUICK)
    assert names(tmp_path) == ["SET.tar.gz.json"]


# --- archives ---


def tar(path, *entries):
    """A tar file of (name, content), where content may be a member type; `linkname` is /etc."""
    with tarfile.open(path, "w:" + {"gz": "gz", "bz2": "bz2", "tar": ""}[path.name.rpartition(".")[2]]) as archive:
        for name, content in entries:
            header = tarfile.TarInfo(name)
            if isinstance(content, str):
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content.encode()))
            else:
                header.type, header.linkname = content, "/etc"
                archive.addfile(header)
    return path


def zipped(path, *entries):
    """A zip file of (name, content, Unix mode)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return path


HARM = {
    "above": [("../outside", "x")],
    "above, deeper": [("a/b/../../../outside", "x")],
    "absolute": [("/outside", "x")],
    "drive": [("C:\\outside", "x")],
    "symlink": [("a", tarfile.SYMTYPE)],
    "through a symlink": [("a", tarfile.SYMTYPE), ("a/outside", "x")],
    "hard link": [("a", tarfile.LNKTYPE)],
    "character device": [("a", tarfile.CHRTYPE)],
    "block device": [("a", tarfile.BLKTYPE)],
    "pipe": [("a", tarfile.FIFOTYPE)],
    "unknown kind": [("a", b"Z")],
    "file with holes": [("a", tarfile.GNUTYPE_SPARSE)],
    "twice": [("a", "x"), ("a", "y")],
    "file and folder": [("a", "x"), ("a/b", "y")],
    "the folder itself": [(".", "x")],
    "too much": [("a", "x" * 2_000_001)],
    "too much in all": [(f"{i}", "x" * 500_000) for i in range(5)],
    "too many": [(f"{i}", "x") for i in range(101)],
    "a long name": [("n" * 5_000_000, "x")],
}


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2"])
@pytest.mark.parametrize("harm", HARM)
def test_harmful_tar(tmp_path, harm, ending):
    archive = tar(tmp_path / f"set.{ending}", ("good", "good"), *HARM[harm])
    with pytest.raises(ValueError, match=rf"^{archive}: "):
        unpack(archive, tmp_path / "out", most_bytes=2_000_000, most_members=100)
    assert names(tmp_path) == [archive.name]


LINK = stat.S_IFLNK | 0o777


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name, mode", [("../outside", 0), ("/outside", 0), ("a", LINK), ("a", stat.S_IFIFO), ("good", 0)])
def test_harmful_zip(tmp_path, name, mode):
    archive = zipped(tmp_path / "set.zip", ("good", "good", stat.S_IFREG), (name, "/etc", mode))
    with pytest.raises(ValueError, match=rf"^{archive}: "):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["set.zip"]


def test_good_zip(tmp_path):
    archive = zipped(tmp_path / "set.zip", ("a/", "", stat.S_IFDIR), ("a/b", "good", stat.S_IFREG), ("c/d/e", "", 0))
    assert unpack(archive, tmp_path / "out") == 4 and (tmp_path / "out/a/b").read_text() == "good"
    assert (tmp_path / "out/c/d/e").read_bytes() == b""


def test_bombs_do_not_go_off(tmp_path):
    """Ten gigabytes of zeros, as a file, as a header and after the end: refused without reading them all."""
    bomb = gzip.compress(bytes(10_000_000), 1)
    header = tarfile.TarInfo("a")
    header.size = 10_000_000_000
    as_file = gzip.compress(header.tobuf(tarfile.GNU_FORMAT)) + bomb
    header.type = tarfile.GNUTYPE_LONGNAME
    as_header = gzip.compress(header.tobuf(tarfile.GNU_FORMAT)) + bomb * 20
    after_the_end = gzip.compress(bytes(1024)) + bomb * 20
    with zipfile.ZipFile(tmp_path / "zip.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5_000_000))
    for name, content in {"file": as_file, "header": as_header, "end": after_the_end}.items():
        (tmp_path / f"{name}.tgz").write_bytes(content)
    tracemalloc.start()
    start = time.monotonic()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=rf"^{path}: "):
            unpack(path, tmp_path / "out", most_bytes=2_000_000)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000 and time.monotonic() - start < 20
    tracemalloc.stop()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "zip"])
def test_damage_is_noticed_wherever_it_is(tmp_path, ending):
    """Cut anywhere, an archive is refused; compressed, and with one bit flipped, as well."""
    whole = tmp_path / f"whole.{ending}"
    entries = [(f"f{i}", chr(97 + i) * 700) for i in range(4)]
    zipped(whole, *((*entry, 0) for entry in entries)) if ending == "zip" else tar(whole, *entries)
    content = whole.read_bytes()
    assert unpack(whole, tmp_path / "whole") == 2800
    cut = tmp_path / f"cut.{ending}"
    last = len(content) if ending != "tar" else 4 * 1536  # what follows is padding
    for end in range(0, last, max(1, last // 60)):
        cut.write_bytes(content[:end])
        with pytest.raises(ValueError):
            unpack(cut, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_not_an_archive(tmp_path):
    for ending in ("tar", "tar.gz", "tbz2", "zip"):
        page = tmp_path / f"set.{ending}"
        page.write_text("<html>please log in</html>" * 100)
        with pytest.raises(ValueError, match=rf"^{page}: "):
            unpack(page, tmp_path / "out")


def test_disk_fills_up_while_unpacking(tmp_path, monkeypatch):
    archive = tar(tmp_path / "set.tar.gz", ("a", "x" * 1000))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(OSError, match="out: no room to write it"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["set.tar.gz"]


def test_interrupted_while_unpacking(tmp_path, monkeypatch):
    archive = tar(tmp_path / "set.tar.gz", ("a", "x"))

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", progress=stop)
    assert names(tmp_path) == ["set.tar.gz"]


# --- the command ---


def test_command_line(server, tmp_path):
    command = [sys.executable, "-c", "from elasticc_hc.cli import main; main()", "download", "elasticc2", tmp_path / "data"]
    done = subprocess.run([*command, "--url", server.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "no checksum is published" in done.stdout and "elasticc-hc convert" in done.stdout, done.stderr
    assert names(tmp_path / "data") == DONE


@pytest.mark.parametrize("words, code", [
    ("elasticc3 new", 2),
    ("elasticc2", 2),
    ("elasticc2 new --url URL --most-gb -1", 2),
    ("elasticc2 new --url URL --sha256 " + "1" * 64, 1),
    ("elasticc2 new --url URL --sha256 1", 1),
    ("elasticc2 new --url URL --most-gb 0.0001", 1),
    ("elasticc2 new --url ftp://127.0.0.1/set.tar", 1),
    ("elasticc2 new --url URL.html", 1),
    ("elasticc2 file --url URL", 1),
])  # fmt: skip
def test_wrong_use(server, tmp_path, monkeypatch, capsys, words, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["elasticc-hc", "download", *words.replace("URL", server.url).split()])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code, said
    assert code == 2 or said.startswith("elasticc-hc: ") and said.count("\n") == 1, said
    assert not (tmp_path / "new").exists() or names(tmp_path / "new") == []


def test_the_address_is_the_one_of_oracle():
    assert DATASETS["elasticc2"].url.endswith("/DESC_TD_PUBLIC/ELASTICC/ELASTICC2_TRAINING_SAMPLE_2/ELASTICC2_TRAIN_02.tar.bz2")
