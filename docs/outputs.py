"""Execute notebooks and store their outputs, two at a time; all of them by default. `nbdev_clean` afterwards.

    python docs/outputs.py [NOTEBOOK ...]           in place
    python docs/outputs.py --check [NOTEBOOK ...]   compare the printed text with the stored one and change nothing
"""

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
# What differs between two runs or machines: durations, rates, sizes, dates, addresses in memory, paths.
UNSTABLE = re.compile(r"0x[0-9a-f]+|[\d.,]+\s?(?:s|ms|µs|min|minutes|seconds|kB|MB|GB)\b|\d{4}-\d\d-\d\d|(?<![\w.])/\S+|\b[0-9a-f]{12,}\b")
NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|[-−]?\.\d+")
ABSOLUTE, RELATIVE = 0.011, 0.02  # differences of numbers that another processor may cause


def execute(path):
    """The notebook as it is after a run in its own folder, without the state of widgets."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", store_widget_state=False, resources=resources).execute()
    return notebook


def printed(cell):
    """The text of a cell's outputs, warnings left out."""
    outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def same_text(one, other):
    """Whether two texts agree but for what is unstable and for small differences of numbers."""
    one, other = (UNSTABLE.sub("…", " ".join(text.split())) for text in (one, other))
    if re.sub(r"\s+", "", NUMBER.sub("#", one)) != re.sub(r"\s+", "", NUMBER.sub("#", other)):
        return False
    pairs = zip_longest(*([float(n.replace("−", "-").replace(",", "")) for n in NUMBER.findall(text)] for text in (one, other)))
    return all(abs(a - b) <= ABSOLUTE + RELATIVE * abs(b) for a, b in pairs)


def is_stale(stored, fresh):
    """Whether the printed text of a cell has changed; one that says that it is skipped, without its files, is not compared."""
    return not same_text(printed(stored), printed(fresh)) and not printed(fresh).startswith("Skipped: ")


def stale_outputs(stored, fresh):
    """The first lines of cells whose printed text has changed."""
    pairs = zip(stored.cells, fresh.cells, strict=True)
    return [f"{old.source.splitlines()[0]!r}: {printed(old)[:300]!r} stored, now {printed(new)[:300]!r}"
            for old, new in pairs if old.cell_type == "code" and is_stale(old, new)]  # fmt: skip


def run(path, check):
    """Execute a notebook; store its outputs, or compare them; what was wrong, in one text."""
    name, stored = path.relative_to(ROOT), nbformat.read(path, as_version=4)
    try:
        fresh = execute(path)
    except CellExecutionError as error:
        return f"{name}: {error}"
    if check and (stale := stale_outputs(stored, fresh)):
        return f"{name}: stale outputs; run: python docs/outputs.py {name}\n" + "\n".join(stale)
    if not check:
        nbformat.write(fresh, path)
    print(name, flush=True)


def main():
    os.environ |= {"IN_TEST": "1", "OMP_NUM_THREADS": "1"}  # nbdev exports nothing while a test runs
    os.environ.pop("MPLBACKEND", None)  # notebooks draw inline, as in JupyterLab
    check = "--check" in sys.argv
    chosen = [Path(name).resolve() for name in sys.argv[1:] if name != "--check"]
    paths = chosen or sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    with ThreadPoolExecutor(2) as pool:
        failures = list(filter(None, pool.map(lambda path: run(path, check), paths)))
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
