"""How the project is laid out: twelve chapters, their floors, what the package offers, and numbers that a move must not change."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import elasticc_hc
from elasticc_hc import HierarchicalClassifier, LightCurves

ROOT = Path(__file__).resolve().parent.parent
NBS, PACKAGE = ROOT / "nbs", ROOT / "elasticc_hc"
CHAPTERS = sorted(path for path in NBS.iterdir() if re.match(r"\d\d_", path.name))
NAMES = [path.name for path in CHAPTERS]
SAMPLE = NBS / "data/plasticc_sample.parquet"
FACE = {
    "LightCurves", "LSSTSource", "Taxonomy", "HierarchicalClassifier", "Predictions", "Explorer",
    "convert", "combine", "train", "evaluate", "animate", "simulate", "predict",
}  # fmt: skip


def cells(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def exported_module(notebook):
    """The module that a notebook exports, None where it exports nothing."""
    source = "\n".join("".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code")
    found = re.search(r"^#\|\s*default_exp (\S+)", source, re.MULTILINE)
    return found and found[1]


def modules(package):
    """Names of the modules of a sub-package."""
    return sorted(path.stem for path in Path(package.__file__).parent.glob("*.py") if path.stem != "__init__")


# --- rooms ---


def test_twelve_chapters_and_a_sub_package_for_each():
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(1, 13)]
    assert {name[3:] for name in NAMES} == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "_modidx.py"}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_a_notebook_exports_the_module_of_its_name(chapter):
    for notebook in sorted(chapter.glob("*.ipynb"))[1:]:
        name = notebook.stem[3:]
        wanted = "cli.__init__" if name == "cli" else f"{chapter.name[3:]}.{name}"
        assert exported_module(notebook) == wanted, notebook.name


@pytest.mark.parametrize("number, chapter", list(enumerate(CHAPTERS)), ids=NAMES)
def test_opening(number, chapter):
    """It exports nothing, shows a figure, asserts, lists the chapter and leads on to the next."""
    opening, *others = sorted(chapter.glob("*.ipynb"))
    assert opening.name == f"01_{chapter.name[3:]}_overview.ipynb" and exported_module(opening) is None
    text = "\n".join("".join(cell["source"]) for cell in cells(opening))
    outputs = [output for cell in cells(opening) for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "a figure"
    assert re.search(r"^\s*assert ", text, re.MULTILINE)
    assert [other.name for other in others if f"({other.name})" not in text] == []
    if chapter != CHAPTERS[-1]:
        following = CHAPTERS[number + 1]
        assert f"(../{following.name}/01_{following.name[3:]}_overview.ipynb)" in text


def test_limits():
    notebooks = [path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts and exported_module(path)]
    files = [path for path in PACKAGE.rglob("*.py") if path.name not in ("_modidx.py", "__init__.py")]  # those are generated
    long = {path.name: n for path in files if (n := len(path.read_text(encoding="utf-8").splitlines())) > 450}
    assert len(notebooks) <= 75 and len(files) <= 75 and not long


def test_page_names_are_unique():
    pages = [re.sub(r"^\d+_", "", path.stem) for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert not {page for page in pages if pages.count(page) > 1}


def test_floors():
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr


# --- what the package offers ---


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, elasticc_hc; print([n for n in ('torch', 'matplotlib', 'pandas', 'numpy', 'astropy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_face():
    assert FACE <= set(dir(elasticc_hc)) and {name[3:] for name in NAMES} <= set(dir(elasticc_hc))
    assert all(getattr(elasticc_hc, name) is not None for name in dir(elasticc_hc))
    assert "def " not in (PACKAGE / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name[3:] for name in NAMES if name != "12_cli"])
def test_a_sub_package_hands_on_all_public_names(name):
    package = importlib.import_module(f"elasticc_hc.{name}")
    owners = {}
    for module in modules(package):
        for public in importlib.import_module(f"elasticc_hc.{name}.{module}").__all__:
            assert public not in owners, f"{public} is in {owners[public]} and {module}"
            owners[public] = module
    assert set(owners) == set(dir(package)) and not set(owners) & set(modules(package))
    for public, module in owners.items():
        assert getattr(package, public) is getattr(importlib.import_module(f"elasticc_hc.{name}.{module}"), public)


def test_methods_need_no_other_import():
    code = "from elasticc_hc import HierarchicalClassifier as H; print(callable(H.new_state), callable(H.update), callable(H.calibrate))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["True"] * 3


# --- what must not change ---


@pytest.mark.parametrize("name", ["plasticc", "synthetic"])
def test_packaged_classifiers_give_the_stored_probabilities(name):
    """Bit-identical where the stored numbers were computed; another processor may round the last bit otherwise."""
    with np.load(Path(__file__).parent / "probabilities.npz") as stored:
        expected = stored[name]
    found = HierarchicalClassifier.load(name).predict(LightCurves.from_parquet(SAMPLE)).probabilities[::8]
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
