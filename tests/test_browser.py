"""The explorer in a real browser: JupyterLab on the loopback, headless Chromium, keys, mouse, and no request to elsewhere.

With ELASTICC_PICTURES=FOLDER the picture of the explorer is written there, as explorer.png.
"""

import importlib.util
import os
import re
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, PATIENT, ROOT, SAMPLE, WAIT, blank_page, laboratory, run_all

from elasticc_hc.explorer.catalogue import Catalogue
from elasticc_hc.explorer.explorer import write_notebook

PICTURES = os.environ.get("ELASTICC_PICTURES")
SHOTS = Path(os.environ.get("ELASTICC_SCREENSHOTS") or ROOT / "_proc" / "screenshots")  # kept, to be looked at

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it: apt-get install chromium")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed; install it: pip install -e '.[dev]'")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with the explorer's notebook, alone in folders of its own, and where it works."""
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(SAMPLE, "plasticc", folder / "explore.ipynb")
    with laboratory(folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def seen(lab):
    """The page with the explorer running, what it asked for and complained about, and the folder it writes to."""
    (address, folder), requests, complaints = lab, [], []
    with blank_page() as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            run_all(page, f"{address}/lab/tree/explore.ipynb?reset")
        except Exception:
            shoot(page, "0_did_not_start")
            raise
        yield page, requests, complaints, folder


def shoot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


STATE = """() => {
  const plots = [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")];
  const card = plots.find((plot) => (plot._fullLayout.shapes || []).some((shape) => shape.name === "cut"));
  const icicle = plots.find((plot) => plot._fullData[0].type === "icicle");
  const list = (values) => values == null ? [] : Array.from(values);
  const axis = card._fullLayout.xaxis, box = card.getBoundingClientRect(), size = card._fullLayout._size;
  const cut = card._fullLayout.shapes.find((shape) => shape.name === "cut"), veil = card._fullLayout.shapes.find((s) => s.name === "veil");
  return {
    status: document.querySelector(".elasticc-explorer [role=status]").innerText,
    alert: (document.querySelector(".elasticc-explorer [role=alert]") || {innerText: ""}).innerText,
    points: card._fullData.slice(0, 12).map((trace) => list(trace.x)), flux: card._fullData.slice(0, 12).map((trace) => list(trace.y)),
    areas: card.data.filter((trace) => trace.stackgroup).map((trace) => [trace.name, list(trace.y)]),
    cut: cut.x0, veil: [veil.x0, veil.x1, veil.visible], node: Object.fromEntries(icicle._fullData[0].ids.map((id, i) => [id, icicle._fullData[0].text[i]])),
    drawn: card.querySelectorAll(".scatterlayer .point").length, title: icicle._fullLayout.title.text,
    line: [box.left + axis._offset + axis.c2p(cut.x0), box.top + size.t + size.h / 2], zero: box.left + axis._offset + axis.c2p(0),
    lines: card.querySelectorAll(".shapelayer path").length, range: list(axis.range), heading: card._fullLayout.title.text,
    middle: [box.left + size.l + size.w / 2, box.top + size.t + size.h / 4], field: document.querySelector('.elasticc-explorer input[placeholder^=SNID]').value,
    colors: card._fullData.slice(0, 12).map((trace) => (trace.marker || {}).color || ""), y: card._fullLayout.yaxis.title.text,
  };
}"""  # noqa: E501


def state(page, until=lambda now: True):
    """What the page shows, when all its parts have arrived at what is waited for: each of them comes in a message of its own."""
    end = time.monotonic() + WAIT / 1000
    while True:
        now = page.evaluate(STATE)
        if until(now) and agrees(now):
            return now
        said = {key: now[key] for key in ("status", "alert", "cut", "title", "drawn")}
        assert time.monotonic() < end, f"the page still shows {said}, {n_points(now)} points"
        page.wait_for_timeout(50)


@cache
def fluxes(snid):
    """The fluxes of an object, from the file."""
    catalogue = Catalogue(SAMPLE)
    return np.sort(catalogue.fetch(catalogue.row_of(snid)).curves.FLUXCAL * 36.3078)


def agrees(now):
    """Whether the figure shows the object that the line above names, and the tree the day of the cut."""
    shown, wanted = np.sort([flux for values in now["flux"] for flux in values]), fluxes(snid(now))
    return shown.shape == wanted.shape and np.allclose(shown, wanted, rtol=1e-4) and now["title"] == f"day {now['cut']:.1f}"


def snid(now):
    return now["status"].split(",")[0].strip()


def n_points(now):
    return sum(map(len, now["points"]))


def shows_the_first_object(seen):
    page, *_ = seen
    first = Catalogue(SAMPLE).fetch(0)
    now = state(page, lambda now: snid(now) == first.SNID and now["drawn"] > 0)
    assert n_points(now) == len(first)
    assert len(now["areas"]) == 14 and {"SNIa", "AGN"} < {name for name, _ in now["areas"]}, "the leaves"
    np.testing.assert_allclose(np.sum([heights for _, heights in now["areas"] if heights], axis=0), 1, atol=0.014)
    chosen = "[...document.querySelectorAll('.elasticc-explorer select')].map((select) => select.selectedOptions[0]?.text)"
    assert page.evaluate(chosen)[:4] == ["any"] * 4
    shoot(page, "1_first_object")


def turn_to(page, name):
    """Open a page of the right column."""
    page.locator(".elasticc-explorer button", has_text=re.compile(f"^{name}$")).click()


def check(page, label):
    return page.locator(".elasticc-explorer label", has_text=label).locator('input[type="checkbox"]')


def fits_the_window_without_scrolling(seen):
    page, *_ = seen
    for width, height in ((1280, 720), (2560, 1440)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(1500)
        size = page.evaluate("""() => {
          const box = document.querySelector(".elasticc-explorer"), frame = document.querySelector(".jp-WindowedPanel-outer");
          const plots = [...box.querySelectorAll(".js-plotly-plot")].filter((plot) => plot.offsetParent);
          return {height: box.scrollHeight, width: box.scrollWidth, room: frame.clientHeight, across: frame.clientWidth,
                  plots: plots.map((plot) => [plot.clientWidth, plot.clientHeight, plot._fullLayout.width, plot._fullLayout.height])};
        }""")
        assert size["height"] <= size["room"] and size["width"] <= size["across"], size
        assert size["height"] > 0.7 * size["room"] and size["width"] > 0.8 * size["across"], f"no emptiness: {size}"
        assert all(abs(a - c) < 2 and abs(b - d) < 2 for a, b, c, d in size["plots"]), f"figures fill their frames: {size}"
        shoot(page, f"0_{width}")
    page.set_viewport_size({"width": 1500, "height": 1000})
    page.wait_for_timeout(800)


def double_click_after_a_zoom_shows_this_object(seen):
    page, *_ = seen
    first = state(page)
    page.click('.elasticc-explorer button:has-text("next")')
    second = state(page, lambda now: snid(now) != snid(first))
    assert second["range"] != first["range"] and second["heading"] == snid(second)
    x, y = second["middle"]
    page.mouse.move(x - 60, y - 20)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=6)
    page.mouse.up()
    zoomed = state(page, lambda now: now["range"][1] - now["range"][0] < 0.7 * (second["range"][1] - second["range"][0]))
    assert zoomed["field"] == snid(second)
    page.mouse.dblclick(x, y)
    home = state(page, lambda now: np.allclose(now["range"], second["range"]))
    assert snid(home) == snid(second)
    page.click('.elasticc-explorer button:has-text("previous")')
    again = state(page, lambda now: snid(now) == snid(first))
    np.testing.assert_allclose(again["range"], first["range"])


def next_previous_random_by_button_and_key(seen):
    page, *_ = seen
    first = state(page)
    page.click('.elasticc-explorer button:has-text("next")')
    second = state(page, lambda now: snid(now) != snid(first))
    assert second["flux"] != first["flux"] and n_points(second) > 0
    page.focus(".elasticc-explorer")
    page.keyboard.press("ArrowLeft")
    again = state(page, lambda now: snid(now) == snid(first))
    assert again["flux"] == first["flux"]
    page.keyboard.press("ArrowRight")
    state(page, lambda now: snid(now) == snid(second))
    page.keyboard.press("r")
    jumped = state(page, lambda now: snid(now) not in (snid(first), snid(second)))
    assert jumped["flux"] != second["flux"]
    assert page.locator(".jp-CodeCell .jp-InputArea").count() == 1, "r has not turned the cell into text"
    page.click('.elasticc-explorer button:has-text("random")')
    assert snid(state(page, lambda now: snid(now) != snid(jumped))) != snid(jumped)


def choose_by_class_and_name(seen):
    page, *_ = seen
    turn_to(page, "select")
    page.locator(".elasticc-explorer select").nth(0).select_option(label="PLAsTiCC-62")
    chosen = state(page, lambda now: "of 16 chosen" in now["status"])
    assert "true class SNIb/c" in chosen["status"]
    page.focus(".elasticc-explorer")
    page.keyboard.press("Control+f")
    page.keyboard.type("19213")
    page.keyboard.press("Enter")
    field = page.locator('.elasticc-explorer input[placeholder^="SNID"]')
    named = state(page, lambda now: snid(now) == "19213")
    assert n_points(named) == 351
    field.fill("19212")
    field.press("Enter")
    refused = state(page, lambda now: now["alert"] and now["field"] == "19213")
    assert "the nearest are 19213" in refused["alert"], "and the field names the object that is shown"
    shoot(page, "2_no_such_object")


def dragging_the_cut_line_winds_back(seen):
    page, *_ = seen
    page.focus(".elasticc-explorer")
    page.keyboard.press("2")
    state(page, lambda now: [name for name, _ in now["areas"]] == ["SN", "Fast", "Long", "Periodic", "AGN"])
    page.keyboard.press("3")
    whole = state(page, lambda now: len(now["areas"]) == 14 and any(heights for _, heights in now["areas"]))
    page.mouse.move(*whole["line"])
    page.mouse.down()
    target = whole["zero"] + 0.2 * (whole["line"][0] - whole["zero"])
    page.mouse.move((whole["line"][0] + target) / 2, whole["line"][1], steps=5)
    state(page, lambda now: now["cut"] < 0.7 * whole["cut"])  # follows while the button is still down
    page.mouse.move(target, whole["line"][1], steps=5)
    early = state(page, lambda now: abs(now["line"][0] - target) < 2)
    page.mouse.up()
    assert early["veil"][0] == early["cut"] and early["veil"][1] > 1000 and early["veil"][2]
    assert early["node"] != whole["node"], "the tree says what was known then"
    assert early["areas"] == whole["areas"] and early["flux"] == whole["flux"], "nothing else has changed"
    shoot(page, "3_cut_dragged")


def slider_is_the_twin_of_the_line(seen):
    page, *_ = seen
    before = state(page)
    handle = page.locator(".elasticc-explorer .noUi-handle").first
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    after = state(page, lambda now: now["cut"] > before["cut"])
    assert snid(after) == snid(before), "arrows on the slider belong to the slider"


def folded_view(seen):
    page, *_ = seen
    turn_to(page, "select")
    page.locator(".elasticc-explorer select").nth(0).select_option(label="PLAsTiCC-92")
    state(page, lambda now: "true class RR Lyrae" in now["status"])
    turn_to(page, "display")
    check(page, "fold").check()
    page.wait_for_function("""() => [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].some(
        (plot) => /folded at 0\\.\\d+ days/.test((plot._fullLayout.title || {}).text || ""))""")
    period = page.locator('.elasticc-explorer input[type="number"]').last
    page.wait_for_function("(field) => Number(field.value) > 0.1", arg=period.element_handle())
    shoot(page, "4_folded")


def axes_bands_and_frame(seen):
    page, *_ = seen
    turn_to(page, "display")
    unit = page.locator(".elasticc-explorer select", has=page.locator("option", has_text="AB magnitude, 5σ limits"))
    unit.select_option(label="AB magnitude, 5σ limits")
    shown = "() => document.querySelectorAll('.elasticc-explorer .scatterlayer .textpoint').length"
    page.wait_for_function(f"() => ({shown})() > 0")
    shoot(page, "6_magnitudes")
    page.locator(".elasticc-explorer button", has_text="▼ r").click()
    page.wait_for_function("""() => [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].some(
        (plot) => plot._fullData.length > 12 && plot._fullData[4].visible === false && plot._fullData[6].visible === true)""")
    page.locator(".elasticc-explorer button", has_text="▼ r").click()
    unit.select_option(label="flux")
    check(page, "fold").uncheck()
    turn_to(page, "select")
    page.locator(".elasticc-explorer button", has_text=re.compile("^reset$")).click()
    state(page, lambda now: "1 of 224 chosen" in now["status"])


def another_classifier_below(seen):
    page, *_ = seen
    turn_to(page, "classifier")
    field = page.get_by_label("compare with")
    field.fill("synthetic")
    field.press("Enter")
    page.wait_for_function("""() => [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].some(
        (plot) => (plot._fullLayout.title || {}).text === "synthetic" && plot._fullData.length === 19)""")
    page.wait_for_function("""() => [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].every(
        (plot) => !plot.offsetParent || Math.abs(plot.clientHeight - plot._fullLayout.height) < 2)""")
    shoot(page, "7_two_classifiers")
    page.locator(".elasticc-explorer button", has_text="remove comparison").click()
    turn_to(page, "object")


def dark_theme(seen):
    page, *_ = seen
    light = state(page)
    page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    page.hover('.lm-Menu-itemLabel:text-is("Theme")')
    page.click('.lm-Menu-itemLabel:text-is("JupyterLab Dark")')
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    dark = state(page, lambda now: now["colors"] != light["colors"])
    page.wait_for_timeout(500)
    shoot(page, "8_dark")
    white = page.evaluate("""() => {
      const lit = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return a > 0 && r + g + b > 3 * 200; };
      const plots = [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].filter((plot) => plot.offsetParent);
      const paper = plots.flatMap((plot) => [...plot.querySelectorAll(".main-svg, .bg")]);
      const text = plots.flatMap((plot) => [...plot.querySelectorAll(".xtick text, .xtitle, .ytitle")]);
      const white = paper.filter((one) => lit(getComputedStyle(one).backgroundColor));
      return [white.length, text.filter((one) => !lit(getComputedStyle(one).fill)).length];
    }""")
    assert white == [0, 0], f"{white[0]} white panels, {white[1]} dark labels on {dark['status']}"
    page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    page.hover('.lm-Menu-itemLabel:text-is("Theme")')
    page.click('.lm-Menu-itemLabel:text-is("JupyterLab Light")')
    state(page, lambda now: now["colors"] == light["colors"])


def every_control_has_a_name_and_takes_the_focus(seen):
    page, *_ = seen
    nameless = page.evaluate("""() => [...document.querySelectorAll(
        ".elasticc-explorer :is(button, input, select, textarea, [role=slider])")].filter((one) => {
      const label = one.labels && [...one.labels].map((each) => each.innerText || each.textContent).join("").trim();
      return !(one.getAttribute("aria-label") || label || one.innerText.trim() || one.title);
    }).map((one) => one.outerHTML.slice(0, 200))""")
    assert not nameless, nameless
    skipped = page.evaluate("""() => [...document.querySelectorAll(".elasticc-explorer :is(button, input, select, [role=slider])")].filter(
        (one) => one.tabIndex < 0 && one.offsetParent && !one.disabled).map((one) => one.outerHTML.slice(0, 200))""")
    assert not skipped, skipped


def picture_of_the_explorer(seen):
    page, *_ = seen
    if not PICTURES:
        return
    page.set_viewport_size({"width": 1560, "height": 900})
    turn_to(page, "object")
    field = page.locator('.elasticc-explorer input[placeholder^="SNID"]')
    field.fill("19213")
    field.press("Enter")
    state(page, lambda now: snid(now) == "19213")
    day = page.get_by_label("day", exact=True)
    day.fill("43")
    day.press("Enter")
    state(page, lambda now: now["cut"] == 43)
    page.mouse.move(1, 1)
    page.wait_for_timeout(1500)
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    page.locator(".elasticc-explorer").screenshot(path=Path(PICTURES) / "explorer.png")


def restarted_kernel_is_said(seen):
    page, *_ = seen
    page.click('.lm-MenuBar-itemLabel:text-is("Kernel")')
    page.click('.lm-Menu-itemLabel:text-is("Restart Kernel…")')
    page.click(".jp-Dialog button.jp-mod-accept")
    page.wait_for_selector(".elasticc-explorer.jupyter-widgets-disconnected")
    said = page.evaluate("() => getComputedStyle(document.querySelector('.elasticc-explorer'), '::before').content")
    assert "run the cell again" in said
    shoot(page, "9_restarted")


def exports_work_offline(seen):
    page, requests, _, folder = seen
    name = snid(state(page))
    for button, suffix in (("PNG", "png"), ("CSV", "csv"), ("HTML", "html")):
        page.locator(".elasticc-explorer button", has_text=re.compile(f"^{button}$")).click()
        page.locator(".elasticc-explorer [role=status]", has_text=f"written: {name}.{suffix}").wait_for()
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(folder / f"{name}.csv")) == len(fluxes(name))
    other, asked = page.context.new_page(), []
    other.on("request", lambda request: asked.append(request.url))
    other.goto((folder / f"{name}.html").as_uri())
    other.wait_for_function("() => [...document.querySelectorAll('.js-plotly-plot')].filter((plot) => plot._fullData).length === 3")
    shoot(other, "5_page")
    other.close()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    page.locator(".elasticc-explorer button", has_text=re.compile("^code$")).click()
    page.wait_for_function("""(name) => [...document.querySelectorAll(".elasticc-explorer textarea")].some(
        (area) => area.value.includes(`explorer.show('${name}', level='leaf', cut=`))""", arg=name)


def nothing_left_the_machine_and_nobody_complained(seen):
    page, requests, complaints, _ = seen
    away = [url for url in requests if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|about:", url)]
    assert requests and not away
    assert not complaints, "\n".join(complaints)
    assert page.locator(".jp-OutputArea-output[data-mime-type*=error], .jp-RenderedText:has-text('Traceback')").count() == 0


def test_the_explorer_in_a_browser(seen):
    """One test: each step goes on where the last one stopped, and tests are dealt out to two processes."""
    steps = (
        shows_the_first_object,
        fits_the_window_without_scrolling,
        double_click_after_a_zoom_shows_this_object,
        next_previous_random_by_button_and_key,
        choose_by_class_and_name,
        dragging_the_cut_line_winds_back,
        slider_is_the_twin_of_the_line,
        folded_view,
        exports_work_offline,
        axes_bands_and_frame,
        another_classifier_below,
        dark_theme,
        every_control_has_a_name_and_takes_the_focus,
        picture_of_the_explorer,
        nothing_left_the_machine_and_nobody_complained,
        restarted_kernel_is_said,
    )
    for step in steps:
        try:
            step(seen)
        except Exception:
            shoot(seen[0], f"failed_{step.__name__}")
            raise


@pytest.mark.skipif(importlib.util.find_spec("notebook") is None, reason="Notebook 7 is not installed; install it: pip install notebook")
def test_the_explorer_in_notebook_7(lab, seen):
    (address, _), complaints = lab, []
    page = seen[0].context.browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.set_default_timeout(WAIT)
    page.add_init_script(PATIENT)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    run_all(page, f"{address}/notebooks/explore.ipynb")
    first = state(page, lambda now: now["drawn"] > 0)
    page.focus(".elasticc-explorer")
    page.keyboard.press("ArrowRight")
    assert snid(state(page, lambda now: snid(now) != snid(first))) != snid(first)
    tall = page.evaluate("() => document.querySelector('.elasticc-explorer').scrollHeight")
    page.wait_for_timeout(1000)
    shoot(page, "notebook_7")
    ours = [said for said in complaints if "widget" in said or "plotly" in said.lower()]  # Notebook itself has others
    assert tall < 720 - 100 and not ours, f"{tall} pixels, {ours}"
