"""Speed and memory of the explorer on a large file.

    python bench/explorer.py FILE.parquet [--objects 100000] [--pages 100] [--browser] > bench/results/explorer.jsonl

Repeats the objects of FILE under new names up to the requested number, in row groups as written by `elasticc-hc convert`. In a
new process it measures the opening of the catalogue and of the window (without imports), their memory, the change to the next
object and to a random one (which reads another row group), and a change of the cut, all in the kernel. With --browser the same
is measured in JupyterLab with a headless Chromium on this machine, from the click to the last change of any figure, and from a
move of the mouse to the cut line drawn, in a window of 1280 × 800 pixels. Prints one JSON line per result.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import psutil  # a dependency of ipykernel
import pyarrow.parquet as pq

from elasticc_hc.explorer.catalogue import Catalogue, repeat_objects

GOALS = {"open_catalogue": 1000, "open_window": 1000, "next": 100, "random": 200, "cut": 50, "count_detections": 2000,
         "next_in_browser": 100, "random_in_browser": 200, "cut_in_browser": 50}  # fmt: skip
CLICK = """(label) => new Promise((done) => {
  const plots = [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")];
  const button = [...document.querySelectorAll(".elasticc-explorer button")].find((one) => one.innerText.includes(label));
  const start = performance.now();
  let last = 0, quiet = null, drawings = 0;
  const drawn = () => {
    last = performance.now() - start;
    drawings += 1;
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      plots.forEach((plot) => plot.removeListener("plotly_afterplot", drawn));
      done([last, drawings]);
    }, 700);
  };
  plots.forEach((plot) => plot.on("plotly_afterplot", drawn));
  button.click();
})"""

DRAG = """(share) => new Promise((done) => {
  const card = [...document.querySelectorAll(".elasticc-explorer .js-plotly-plot")].find(
    (plot) => (plot._fullLayout.shapes || []).some((shape) => shape.name === "cut"));
  const axis = card._fullLayout.xaxis, box = card.getBoundingClientRect(), frame = card.querySelector(".nsewdrag");
  const line = () => card._fullLayout.shapes.find((shape) => shape.name === "cut").x0;
  const at = (day) => ({clientX: box.left + axis._offset + axis.c2p(day), clientY: box.top + box.height / 4, bubbles: true, button: 0});
  frame.dispatchEvent(new MouseEvent("mousedown", at(line())));
  const start = performance.now();
  const drawn = () => {
    card.removeListener("plotly_afterplot", drawn);
    document.dispatchEvent(new MouseEvent("mouseup", {bubbles: true}));
    done(performance.now() - start);
  };
  card.on("plotly_afterplot", drawn);
  document.dispatchEvent(new MouseEvent("mousemove", at(share * axis.range[1])));
})"""


def told(what: str, milliseconds: list[float], **more) -> None:
    "One JSON line."
    middle = float(np.median(milliseconds))
    late = float(np.percentile(milliseconds, 95))
    result = {"what": what, "median_ms": round(middle, 1), "p95_ms": round(late, 1), "goal_ms": GOALS.get(what)}
    print(json.dumps(result | more), flush=True)


def timed(action) -> float:
    "Duration of an action in milliseconds."
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def megabytes() -> float:
    "Memory of this process without memory-mapped files."
    used = psutil.Process().memory_info()
    return (used.rss - used.shared) / 1e6


def machine() -> dict:
    "Date and machine."
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {"date": date.today().isoformat(), "cpu": names[0] if names else platform.processor(), "cores": os.cpu_count()}


def measure(path: Path, pages: int) -> None:
    "All measurements, in a new process."
    from elasticc_hc.classification.classifier import HierarchicalClassifier
    from elasticc_hc.explorer.explorer import Explorer

    print(json.dumps(machine() | {"objects": pq.read_metadata(path).num_rows, "pages": pages}), flush=True)
    classifier, before = HierarchicalClassifier.from_pretrained("plasticc"), megabytes()
    opened = []
    took = timed(lambda: opened.append(Catalogue(path)))
    told("open_catalogue", [took], megabytes=round(megabytes() - before))
    opened.clear()
    before = megabytes()
    took = timed(lambda: opened.append(Explorer(path, classifier)))
    told("open_window", [took], megabytes=round(megabytes() - before), goal_mb=300)
    explorer = opened[0]
    told("next", [timed(lambda: explorer.go_to(explorer.place + 1)) for _ in range(pages)])
    told("random", [timed(explorer.jump) for _ in range(pages)])
    days = np.linspace(0, explorer.buttons.cut.max, pages)
    told("cut", [timed(lambda day=day: setattr(explorer.listener, "day", float(day))) for day in days])
    told("count_detections", [timed(explorer.catalogue.count_detections)])
    told("choose", [timed(lambda: explorer.catalogue.choose(leaf="SN", redshift=(0.1, 0.5), verdicts=explorer.verdicts))])
    print(json.dumps({"what": "memory_at_the_end", "megabytes": round(megabytes() - before), "goal_mb": 300}), flush=True)


def measure_in_browser(path: Path, pages: int) -> None:
    "Time from the click to the last change of any figure, with at most two objects per second."
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from browser import blank_page, laboratory, run_all

    from elasticc_hc.explorer.explorer import write_notebook

    with tempfile.TemporaryDirectory() as folder:
        write_notebook(path, "plasticc", Path(folder) / "explore.ipynb")
        with laboratory(Path(folder)) as address, blank_page() as page:
            page.set_viewport_size({"width": 1280, "height": 800})
            run_all(page, f"{address}/lab/tree/explore.ipynb?reset")
            page.wait_for_timeout(2000)
            for label in ("next", "random"):
                waits, drawings = zip(*(page.evaluate(CLICK, label) for _ in range(pages)), strict=True)
                told(f"{label}_in_browser", list(waits), drawings=float(np.median(drawings)), load=round(os.getloadavg()[0], 1))
            moved = []
            for share in np.linspace(0.1, 0.8, pages):
                moved.append(page.evaluate(DRAG, share))
                page.wait_for_timeout(200)
            told("cut_in_browser", moved, load=round(os.getloadavg()[0], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="Parquet file whose objects are repeated")
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--browser", action="store_true", help="also in a headless Chromium, with a third of the objects")
    parser.add_argument("--measure", action="store_true", help="measure FILE itself, without repetition")
    options = parser.parse_args()
    if options.measure:
        return measure(options.file, options.pages)
    if options.browser and importlib.util.find_spec("playwright") is None:
        parser.error("--browser needs playwright: pip install -e '.[dev]'")
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.parquet"
        repeat_objects(large, pq.read_table(options.file), options.objects)
        subprocess.run([sys.executable, __file__, str(large), "--measure", "--pages", str(options.pages)], check=True)
        if options.browser:
            measure_in_browser(large, max(options.pages // 3, 1))


if __name__ == "__main__":
    main()
