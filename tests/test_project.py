"""The project as a whole: notebooks run, what is generated is up to date, and the package holds what it needs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

import pytest
from fastcore.basics import chunked

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not re.search(r"/[._]", str(p.relative_to(ROOT))))
IDS = [str(path.relative_to(ROOT / "nbs").with_suffix("")) for path in NOTEBOOKS]
NOT_OURS = {"_site", "_proc", "build", "dist", "demo", "__pycache__", "elasticc_hc.egg-info"}
# A proxy that refuses: what reaches for the network fails at once.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")

settings = ConfigParser(delimiters=["="], interpolation=None)
settings.read(ROOT / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]


def run(*command, cwd, **environment):
    """Run a command; a failure shows everything it wrote."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **environment}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done.stdout


def is_ours(parts):
    """True for a path that git would not ignore."""
    return not NOT_OURS & set(parts) and not any(part.startswith(".") and part != ".ci" for part in parts[:-1])


def tracked():
    """The files under version control, and those that would be added; all files where there is no git."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        files = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for path in ROOT.rglob("*") if is_ours(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def copy_of_project(folder):
    """A copy of the project's files in a folder."""
    for path in tracked():
        target = folder / "copy" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder / "copy"


@pytest.fixture
def copy(tmp_path):
    """A copy of the project's files, to build in."""
    return copy_of_project(tmp_path)


def contents(folder, pattern):
    """File names relative to the folder, with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(pattern))}


def differences(have, want):
    """The names whose contents differ or which only one side has."""
    return sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))


# --- notebooks ---


def test_there_are_notebooks():
    assert len(NOTEBOOKS) > 1


SHOWN = [path for path in NOTEBOOKS if path.name.startswith("01_") or path.parent.name in ("tutorials", "nbs")]


@pytest.mark.parametrize("notebook", SHOWN, ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_is_stored(notebook):
    """The openings of the chapters, the tutorials and the README's notebook."""
    run(sys.executable, "docs/outputs.py", "--check", notebook, cwd=ROOT, **OFFLINE)


def test_changed_outputs_are_found(tmp_path):
    """Another number or word is found; another duration is not."""
    sys.path.insert(0, str(ROOT / "docs"))
    from nbformat.v4 import new_code_cell, new_output
    from outputs import is_stale, same_text

    cells = [new_code_cell(outputs=[new_output("stream", text=text)]) for text in ("F1 0.6", "F1 0.7", "Skipped: no files")]
    assert is_stale(cells[0], cells[1]) and is_stale(cells[2], cells[0]) and not is_stale(cells[0], cells[2])
    assert same_text("F1 0.612 in 3.2 s, 1,204 objects", "F1 0.615 in 47 s, 1,204 objects")
    assert not same_text("F1 0.612", "F1 0.66") and not same_text("SNIa 0.61", "SNII 0.61") and not same_text("12 objects", "")


TOGETHER = 4  # notebooks of a chapter that one process runs, so that it imports PyTorch once
CHAPTERS = groupby((path for path in NOTEBOOKS if path not in SHOWN), key=lambda path: path.parent)
GROUPS = [part for _, paths in CHAPTERS for part in chunked(paths, TOGETHER)]


@pytest.mark.parametrize("notebooks", GROUPS, ids=lambda part: f"{part[0].parent.name}/{part[0].stem}…{part[-1].stem}")
def test_notebooks_run(notebooks):
    names = "|".join(re.escape(path.name) for path in notebooks)
    words = ("--path", notebooks[0].parent, "--file_re", f"^({names})$", "--do_print", "--n_workers", "0")
    written = run(BIN / "nbdev_test", *words, cwd=ROOT, **OFFLINE)
    assert "Success" in written and all(f"Completed {path}" in written for path in notebooks), written


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=IDS)
def test_notebook_is_small_and_has_no_errors(notebook):
    assert notebook.stat().st_size < 500_000
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output["evalue"] for output in outputs if output["output_type"] == "error"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=IDS)
def test_imports_have_their_own_cells(notebook):
    """The documentation runs the cells with imports, and only these: other code beside them fails there."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or re.search(r"^#\|\s*(export|eval: *false)|nbdev_export\(|^\s*[%!]", source, re.M):
            continue
        nodes = list(ast.walk(ast.parse(source)))
        imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
        if imports and any(isinstance(node, ast.Expr | ast.Assign) for node in nodes):
            pytest.fail(f"{notebook.name}: imports and other code in one cell:\n{source}", pytrace=False)


# --- what is generated is up to date ---


def test_library_is_the_export_of_the_notebooks(copy):
    library = copy / settings["lib_path"]
    for path in library.rglob("*.py*"):
        path.unlink()
    run(BIN / "nbdev_export", cwd=copy)
    run(sys.executable, "docs/init_files.py", cwd=copy)
    stale = differences(contents(library, "*.py*"), contents(ROOT / settings["lib_path"], "*.py*"))
    assert not stale, f"not the export of the notebooks: {', '.join(stale)}; run: make export"


def test_notebooks_are_clean(copy):
    before = contents(copy / "nbs", "*.ipynb")
    run(BIN / "nbdev_clean", cwd=copy)
    dirty = differences(contents(copy / "nbs", "*.ipynb"), before)
    assert not dirty, f"nbdev_clean changes {', '.join(dirty)}; run: make export"


def test_readme_is_the_index(copy):
    run(sys.executable, "docs/readme.py", "--check", cwd=copy)


def test_readme_links_lead_somewhere():
    links = re.findall(r"""\]\(([^)\s#]+)|(?:src|href)="([^"#]+)""", (ROOT / "README.md").read_text(encoding="utf-8"))
    paths = [a or b for a, b in links if not re.match(r"[a-z]+:", a or b)]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_no_path_of_a_machine():
    path_of_a_machine = re.compile(rb"(?<![\w.~-])/(?:tmp|root|home|work|Users)/\w")
    guilty = [
        f"{path.relative_to(ROOT)}: {data[found.start() : found.start() + 60]!r}"
        for path in tracked()
        if b"\0" not in (data := path.read_bytes()) and (found := path_of_a_machine.search(data))
    ]
    assert not guilty, "\n".join(guilty)


def test_ruff(copy):
    run(BIN / "ruff", "check", "--no-cache", ".", cwd=copy)


# --- packaging ---


def test_pyproject_agrees_with_settings():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, nbdev = pyproject["project"], pyproject["tool"]["nbdev"]
    assert project["name"] == settings["lib_name"]
    assert project["requires-python"] == f">={settings['min_python']}"
    assert project["urls"]["Repository"] == settings["git_url"]
    assert project["urls"]["Documentation"] == settings["doc_host"] + settings["doc_baseurl"]
    assert {name: str(value).lower() for name, value in nbdev.items()} == {name: settings[name].lower() for name in nbdev}


def test_constraints_pin_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {}
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!]+", line), f"constraints.txt: {line} is not a plain name==version"
        name, number = line.split("==")
        pinned[re.sub(r"[-_.]+", "-", name).lower()] = number
    wanted = " ".join(value for name, value in settings.items() if name.endswith("requirements") and name != "bench_requirements").split()
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", item)[0]).lower() for item in wanted}
    assert names <= pinned.keys()
    for name, number in pinned.items():
        try:
            assert version(name).split("+")[0] == number, f"{name} {version(name)} is installed, {number} is pinned"
        except PackageNotFoundError:
            pass  # another platform's requirement


def package_data(names):
    """The data files of the library among these names, from the library's folder on."""
    library = settings["lib_path"]
    data = r"(?:taxonomies|priors|pretrained|sample|simulation/tables)/.*[^/]|py\.typed|.*\.pyi"
    found = (re.search(rf"(?:^|/)({library}/(?:{data}))$", name) for name in names)
    return {match[1] for match in found if match}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """An sdist, and the wheel built from it, so that the sdist is complete as well."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys; from setuptools import build_meta as b; print(b.build_sdist(sys.argv[1]))"
    sdist = folder / run(sys.executable, "-c", build, folder, cwd=copy_of_project(folder)).split()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (folder / "sdist").iterdir()
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    return sdist, next(folder.glob("*.whl"))


def test_sdist_and_wheel_hold_the_package_data(distributions):
    sdist, wheel = distributions
    with tarfile.open(sdist) as archive:
        in_sdist = [member.name for member in archive if member.isfile()]
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
        metadata = archive.read(next(name for name in in_wheel if name.endswith("/METADATA"))).decode()
    wanted = package_data(str(path.relative_to(ROOT)) for path in tracked())
    assert wanted and wanted == package_data(in_wheel) == package_data(in_sdist)
    assert any(name.endswith("licenses/LICENSE") for name in in_wheel) and "elasticc_hc/sample/LICENSE-snmachine" in in_wheel
    assert max(sdist.stat().st_size, wheel.stat().st_size) < 8e6
    for line in (f"Version: {settings['version']}", "License-Expression: Apache-2.0", "Requires-Dist: torch>="):
        assert line in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not any(re.search(r": (?:jupyterlab|ipywidgets|anywidget|plotly)\b", line) for line in required)


def test_readme_code_runs_from_the_wheel(distributions, tmp_path):
    """The Python of the README in a folder of its own, with the wheel in place of the clone."""
    with zipfile.ZipFile(distributions[1]) as archive:
        archive.extractall(tmp_path / "installed")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "alerts/" not in block]
    assert len(blocks) == 2 and len(readme.split()) <= 900
    code = "\n".join([*blocks, "import elasticc_hc; print(elasticc_hc.__file__)"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = run(sys.executable, "-c", code, cwd=elsewhere, PYTHONPATH=str(tmp_path / "installed"), **OFFLINE)
    assert said.split()[-1] == str(tmp_path / "installed/elasticc_hc/__init__.py")


def test_explorer_names_its_extra_where_it_is_not_installed(tmp_path):
    code = "import sys; sys.modules['plotly'] = None\ntry:\n    from elasticc_hc import Explorer\nexcept ImportError as no:\n    print(no)"
    assert "pip install 'elasticc_hc[explorer]'" in run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
