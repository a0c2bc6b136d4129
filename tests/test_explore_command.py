"""`elasticc-hc explore FILE RUN` as a user types it: JupyterLab starts, is handed to the browser, serves the notebook, and stops."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from browser import CHROMIUM, DIRECT, SAMPLE, blank_page, free_port, lonely, run_all

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
COMMAND = [sys.executable, "-c", "from elasticc_hc.cli import main; main()", "explore", str(SAMPLE), "plasticc"]
TAKE_NOTE = "import pathlib, sys; note = pathlib.Path({!r}); note.write_text(sys.argv[1]); note.rename(note.with_suffix('.url'))"


@contextmanager
def explored(folder):
    """What the command gave the browser to open, while it runs; at the end it is told to stop as a user does, and must."""
    (folder / "config").mkdir()
    server = {"allow_root": True, "port": free_port(), "port_retries": 0}
    lab = {"news_url": None, "check_for_updates_class": "jupyterlab.NeverCheckForUpdate", "extension_manager": "readonly"}
    (folder / "config" / "jupyter_lab_config.json").write_text(json.dumps({"ServerApp": server, "LabApp": lab}))
    (folder / "browser.py").write_text(TAKE_NOTE.format(str(folder / "opened")))
    settings = lonely(folder) | {"BROWSER": f"{sys.executable} {folder / 'browser.py'} %s"}
    keyboard, terminal = pty.openpty()
    with (folder / "lab.log").open("w") as log:
        streams = {"stdin": terminal, "stdout": log, "stderr": log}
        command = subprocess.Popen(COMMAND, env=settings, cwd=folder, start_new_session=True, **streams)
        try:
            yield address_opened(folder, command)
            stop(command, keyboard, folder)
        finally:
            for process in family(command):
                process.kill()
            os.close(keyboard)
            os.close(terminal)


def family(command):
    """The command and all that it started."""
    try:
        return [parent := psutil.Process(command.pid), *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def address_opened(folder, command):
    """The address behind the file that a browser was asked to open."""
    end = time.monotonic() + 60
    while not (folder / "opened.url").exists():
        assert command.poll() is None and time.monotonic() < end, (folder / "lab.log").read_text()
        time.sleep(0.1)
    with urllib.request.urlopen((folder / "opened.url").read_text()) as page:
        return re.search(r'href="(http[^"]+)"', page.read().decode()).group(1)


def stop(command, keyboard, folder):
    """Ctrl-C in the terminal, and yes when JupyterLab asks."""
    started = family(command)
    os.killpg(command.pid, signal.SIGINT)
    os.write(keyboard, b"y\n")
    assert command.wait(30) == 0, (folder / "lab.log").read_text()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, "nothing is left running"
    assert "Traceback" not in (folder / "lab.log").read_text()


def test_the_notebook_is_served_on_the_loopback(tmp_path):
    with explored(tmp_path) as address:
        parts = urlsplit(address)
        assert parts.hostname in ("localhost", "127.0.0.1") and parts.path == "/lab/tree/explore_plasticc_sample.ipynb"
        token = parse_qs(parts.query)["token"][0]
        wanted = f"http://127.0.0.1:{parts.port}/api/contents/explore_plasticc_sample.ipynb"
        served = json.load(DIRECT.open(urllib.request.Request(wanted, headers={"Authorization": f"token {token}"}), timeout=20))
        assert [cell["cell_type"] for cell in served["content"]["cells"]] == ["markdown", "code"]
        assert "'plasticc')" in served["content"]["cells"][1]["source"]
    with pytest.raises(OSError):
        DIRECT.open(address, timeout=5)
    assert "notebook in explore_plasticc_sample.ipynb" in (tmp_path / "lab.log").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it: apt-get install chromium")
def test_the_notebook_opens_and_runs_to_the_explorer(tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed; install it: pip install -e '.[dev]'")
    with explored(tmp_path) as address, blank_page() as page:
        run_all(page, address)
        assert "1 of 224 chosen" in page.locator(".elasticc-explorer [role=status]").first.inner_text()
