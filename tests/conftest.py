"""The last line of a test run, from pytest's own counts: `N passed, M failed` and, where there are any, `K skipped`."""

import shutil

import pytest


def counts(config):
    """Numbers of passed, failed and skipped tests; an error counts as a failure."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    number = {name: len(stats.get(name, [])) for name in ("passed", "xpassed", "failed", "error", "skipped", "xfailed")}
    return (
        number["passed"] + number["xpassed"],
        number["failed"] + number["error"],
        number["skipped"] + number["xfailed"],
    )


def is_controller(config):
    """True in the process that reports, which is not one of xdist's workers."""
    return not hasattr(config, "workerinput") and not config.option.collectonly


def pytest_collection_modifyitems(items):
    """Long tests first: a process takes over the last tests of the other one, and none of those shares a site or a browser."""
    shared, notebooks = ("test_documentation", "test_browser"), ("test_notebooks_run", "test_notebook_runs")
    items.sort(key=lambda item: 0 if item.path.stem in shared else 1 if item.name.startswith(notebooks) else 2)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A run in which nothing passed and nothing failed is no success."""
    if is_controller(session.config) and exitstatus == 0 and counts(session.config)[:2] == (0, 0):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Print the line when everything else has been printed."""
    if is_controller(config) and config.pluginmanager.has_plugin("terminalreporter"):
        passed, failed, skipped = counts(config)
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)


@pytest.fixture
def chromium():
    """A headless browser; a test that needs it is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; install it: apt-get install chromium")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield browser
        browser.close()
