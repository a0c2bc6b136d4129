"""JupyterLab on the loopback and headless Chromium, for tests and measurements of the explorer."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "nbs" / "data" / "plasticc_sample.parquet"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
PATIENT = """const limit = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (milliseconds) => limit(milliseconds === 2000 ? 120000 : milliseconds);"""  # of anywidget, which gives up after 2 s
WAIT = 120_000  # milliseconds that a step may take on a busy machine
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def lonely(folder):
    """Environment of a JupyterLab that reads and writes its settings in a folder only, and reaches nothing but the loopback."""
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True, exist_ok=True)
    quiet.write_text('{"fetchNews": "false"}')
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    refuse = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **own, **refuse, "no_proxy": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def wait_for(address, server, log):
    """Until the server answers; what it said where it does not."""
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            return DIRECT.open(address, timeout=2).read()
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")


@contextmanager
def laboratory(folder):
    """The address of a JupyterLab that works in a folder and is gone at the end."""
    port, log = free_port(), folder / "lab.log"
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"]  # fmt: skip
    with log.open("w") as said:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=lonely(folder), cwd=folder, stdout=said, stderr=said)
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def blank_page():
    """A page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1500, "height": 1300}).new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script(PATIENT)
        yield page
        browser.close()


FIGURES_ARE_DRAWN = """() => {
    const plots = [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].filter((plot) => (plot._fullData || []).length);
    return plots.length >= 2 && plots.some((plot) => (plot._fullLayout.shapes || []).some((shape) => shape.name === "cut"));
}"""


def press_run_all(page):
    """Run all cells from the menu, until the first of them has started."""
    from playwright.sync_api import TimeoutError

    for _ in range(20):  # a notebook that has just been opened may not hear the first time
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        try:
            page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[[*\d]+\]:")).first.wait_for(timeout=3000)
            return
        except TimeoutError:
            continue


def run_all(page, address):
    """Open the notebook, wait until its kernel is idle, run all cells, and wait for the figures."""
    page.goto(address)
    if "/lab/" in address:  # Notebook 7 has neither of the two
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
        page.wait_for_selector('#jp-main-statusbar :text("| Idle")')
    press_run_all(page)
    page.wait_for_selector(".elasticc-explorer[data-hands=ready]", state="attached")
    page.wait_for_function(FIGURES_ARE_DRAWN)
