"""Execute notebooks in place, all of them by default, two at a time; `nbdev_clean` afterwards.

    python docs/outputs.py [NOTEBOOK ...]
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent


def execute(path):
    """Run a notebook in its own folder and store its outputs, without the state of widgets."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    try:
        NotebookClient(notebook, timeout=600, kernel_name="python3", store_widget_state=False, resources=resources).execute()
    except CellExecutionError as error:
        return f"{path.relative_to(ROOT)}: {error}"
    nbformat.write(notebook, path)
    print(path.relative_to(ROOT), flush=True)


def main():
    os.environ |= {"IN_TEST": "1", "OMP_NUM_THREADS": "1"}  # nbdev exports nothing while a test runs
    chosen = [Path(name).resolve() for name in sys.argv[1:]]
    paths = chosen or sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    with ThreadPoolExecutor(2) as pool:
        failures = list(filter(None, pool.map(execute, paths)))
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
