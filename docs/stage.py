"""Pages for MyST-NB from the notebooks that nbdev has processed: cell options become tags, API entries become Python objects."""

import importlib
import inspect
import posixpath
import re
from functools import cache
from pathlib import Path

import nbformat
import yaml
from fastcore.docments import docments
from nbdev.config import get_config

ROOT = Path(__file__).resolve().parent.parent
CONFIG = get_config(path=ROOT)
PUBLISHED = CONFIG.doc_host + CONFIG.doc_baseurl
SOURCE = f"{CONFIG.git_url}/blob/{CONFIG.branch}"
OPTION = re.compile(r"^#\|\s*([\w-]+):\s*(\S+)\s*$", re.MULTILINE)
SHOWN = re.compile(r"^show_doc\(([\w.]+)", re.MULTILINE)
API_LINK = re.compile(rf"\[`([^`]+)`\]\({re.escape(PUBLISHED)}/([\w/]+)\.html#([\w.-]+)\)")
RELATIVE_LINK = re.compile(r"(\]\(|\b(?:src|href)=\")(?![a-z]+:|#|/)([^)\s\"]+)")
TITLES = {
    "lightcurves": "Light curves", "lightcurves_overview": "Light curves", "snana": "SNANA", "fits": "FITS", "cli": "Command line",
    "cli_overview": "Command line", "plasticc_set": "PLAsTiCC", "snana_to_parquet": "From SNANA to Parquet",
    "snana_files": "SNANA files", "fluxcurve": "Flux curve", "state": "State and updates",
}  # fmt: skip


def title_of(name):
    """The heading of a page: the name of its notebook in words."""
    words = name.removesuffix("_overview").replace("_", " ")
    return TITLES.get(name, words[:1].upper() + words[1:])


# --- API entries ---


@cache
def names_by_anchor():
    """Page and anchor of nbdev → full name of an object."""
    entries = importlib.import_module("elasticc_hc._modidx").d["syms"].values()
    return {tuple(address.split(".html#")): name for module in entries for name, (address, _) in module.items()}


@cache
def modules():
    """Notebook, relative to nbs/ → the module that it exports, in the order of the book."""
    found = {}
    for path in sorted((ROOT / "nbs").glob("[0-9]*/*.ipynb")):
        exported = re.search(r"#\| default_exp ([\w.]+)", path.read_text(encoding="utf-8"))
        if exported:
            found[path.relative_to(ROOT / "nbs").as_posix()] = f"elasticc_hc.{exported[1].removesuffix('.__init__')}"
    return found


def linked(markdown):
    """Links to nbdev's API entries as references to Python objects."""

    def reference(match):
        name = names_by_anchor().get((match[2], match[3]))
        return f"{{py:obj}}`{match[1]} <{name}>`" if name and public(name) else f"`{match[1]}`"

    return API_LINK.sub(reference, markdown)


def public(name):
    """Whether no part of a full name begins with an underscore."""
    return not any(part.startswith("_") for part in name.split("."))


def annotation(kind):
    """A type as text, without the modules of the standard library."""
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)


def default_text(value):
    """A default value as text, shortened."""
    text = repr(value) if not inspect.isclass(value) and not callable(value) else getattr(value, "__name__", repr(value))
    return text if len(text) <= 40 and "\n" not in text and " at 0x" not in text else "..."


def signature_text(entry):
    """The arguments of a callable with their defaults."""
    try:
        parameters = inspect.signature(entry).parameters.values()
    except (TypeError, ValueError):
        return "()"
    short = [p.replace(annotation=p.empty, default=p.empty) for p in parameters if p.name not in ("self", "cls")]
    texts = [str(p) if old.default is old.empty else f"{p.name}={default_text(old.default)}"
             for p, old in zip(short, [p for p in parameters if p.name not in ("self", "cls")], strict=True)]  # fmt: skip
    kinds = [p.kind for p in short]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        texts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return f"({', '.join(texts)})"


def parameter_fields(entry, link):
    """Type and meaning of each parameter and of what is returned, as a field list."""
    lines = []
    for name, known in docments(entry, full=True).items():
        if name in ("self", "cls"):
            continue
        kind = "" if known.anno in (None, inspect.Parameter.empty) else annotation(known.anno)
        meaning = link(" ".join(known.docment.split())) if known.docment else ""
        if name == "return":
            lines += [f":returns: {meaning}"] if meaning else []
            lines += [f":rtype: {kind}"] if kind and kind != "None" else []
        else:
            lines += [f":param {name}: {meaning}"] + ([f":type {name}: {kind}"] if kind else [])
    return lines


def entry_directive(module, name, link, source_url):
    """The API entry of an object: kind, signature, one line, parameters, link to the source."""
    found = importlib.import_module(module)
    owner = None
    for part in name.split("."):
        owner, found = found, inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    if inspect.isclass(found):
        kind, arguments = "class", signature_text(found)
    elif isinstance(found, property) or not callable(function):
        kind, arguments = "property", ""
    else:
        kind, arguments = "method" if inspect.isclass(owner) else "function", signature_text(function)
    options = [f":module: {module}"]
    options += [":classmethod:"] if isinstance(found, classmethod) else [":staticmethod:"] if isinstance(found, staticmethod) else []
    doc = link(inspect.getdoc(function) or "")
    fields = parameter_fields(function, link) if callable(function) and kind != "property" else []
    body = [doc, "", *fields, "", f"[source]({source_url}){{.source-link}}" if source_url else ""]
    return "\n".join([f"```````{{py:{kind}}} {name}{arguments}", *options, "", *body, "```````"])


# --- notebooks ---


def front_matter(cell):
    """What nbdev wrote above a notebook."""
    return yaml.safe_load(cell.source.strip().strip("-"))


def cell_options(source):
    """The cell options of Quarto in a cell, and the source without them."""
    return dict(OPTION.findall(source)), OPTION.sub("", source).strip("\n")


def moved_link(match, folder, pages):
    """A relative link of a notebook in nbs/: to a page, to a picture, or to a file of the repository on its web site."""
    address, _, anchor = match[2].partition("#")
    target = posixpath.normpath(posixpath.join("nbs", folder, address))
    name = posixpath.relpath(target, "nbs")
    if name in pages:
        there = posixpath.relpath("get_started.ipynb" if name == "index.ipynb" else name, folder or ".")
        return match[1] + there + (f"#{anchor}" if anchor else "")
    if target.startswith(("images/", "gif/")):
        return match[1] + posixpath.relpath(target, folder or ".")
    return f"{match[1]}{SOURCE}/{target}"


def markdown_text(text, folder, pages):
    """Markdown of nbdev as MyST reads it."""
    parts = re.split(r"(```.*?```|`[^`\n]+`(?!\]))", text, flags=re.DOTALL)
    moved = [part if i % 2 else RELATIVE_LINK.sub(lambda m: moved_link(m, folder, pages), part) for i, part in enumerate(parts)]
    return linked("".join(moved))


def staged_cell(cell, module, move):
    """A cell as MyST-NB shows it; None where there is nothing to show."""
    if cell.cell_type == "markdown":
        text = move(cell.source)
        return None if text.startswith("<!--") else nbformat.v4.new_markdown_cell(text)
    options, source = cell_options(cell.source)
    shown = SHOWN.search(source)
    if shown and public(shown[1]):
        text = "".join(cell.outputs[0]["data"]["text/markdown"])
        url = re.search(r"\[source\]\(([^)]+)\)", text)
        return nbformat.v4.new_markdown_cell(entry_directive(module, shown[1], link_names(text), url and url[1]))
    if shown or options.get("include") == "false":
        return None
    if options.get("output") == "asis" and cell.outputs:
        return nbformat.v4.new_markdown_cell(move("".join(cell.outputs[0].get("text", ""))))
    tags = ["remove-input"] if options.get("echo") == "false" else ["hide-input"] if "code-fold" in options else []
    outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    return nbformat.v4.new_code_cell(source, outputs=outputs, metadata={"tags": tags}) if source or outputs else None


def link_names(text):
    """A function that links the names in backticks that nbdev linked in an API entry."""
    found = {match[1]: linked(match[0]) for match in API_LINK.finditer(text)}
    return lambda line: re.sub(r"`([^`]+)`", lambda match: found.get(match[1], match[0]), line)


def stage_notebook(path, folder, pages, source):
    """Write the page of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    about, name = front_matter(notebook.cells[0]), posixpath.join(folder, path.name)
    chapter = re.match(r"(\d+)_", folder)
    number = re.match(r"(\d+)_", path.name)
    title = about["title"]
    if chapter:
        title = f"{int(chapter[1])}{f'.{int(number[1]) - 1}' if int(number[1]) > 1 else ''} {title_of(title)}"
    lead = [f"*{about['description']}*"] if about.get("description") and name != "index.ipynb" else []
    head = "\n\n".join([f"# {'Get started' if name == 'index.ipynb' else title}", *lead])
    cells = [staged_cell(cell, modules().get(name), lambda text: markdown_text(text, folder, pages)) for cell in notebook.cells[1:]]
    cells = [nbformat.v4.new_markdown_cell(head), *filter(None, cells)]
    if chapter and int(number[1]) == 1:
        rest = sorted(other for other in pages if other.startswith(f"{folder}/") and other != name)
        cells.append(nbformat.v4.new_markdown_cell(toctree(Path(other).stem for other in rest)))
    notebook.cells = cells
    target = source / ("get_started.ipynb" if name == "index.ipynb" else name)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def toctree(names, options=("hidden",)):
    """A table of contents of these pages."""
    return "\n".join(["```{toctree}", *(f":{option}:" for option in options), *names, "```"])


def stage_notebooks(processed, source):
    """Write the pages of all notebooks."""
    pages = sorted(path.relative_to(processed).as_posix() for path in processed.rglob("*.ipynb") if source not in path.parents)
    for name in pages:
        stage_notebook(processed / name, posixpath.dirname(name), pages, source)


# --- pages of their own ---


def api_table(module):
    """The public names of a module with their first lines."""
    here = importlib.import_module(module)
    rows = []
    for name in sorted(here.__all__, key=str.lower):
        found = getattr(here, name)
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            continue
        line = (inspect.getdoc(found) or "").split("\n")[0].replace("|", "\\|")
        rows.append(f"| {{py:obj}}`{name} <{module}.{name}>` | {line} |")
    return ["| name | |", "|---|---|", *rows] if rows else []


def write_api_pages(source):
    """A page per chapter with the names of its modules."""
    folder = source / "api"
    folder.mkdir()
    for chapter in dict.fromkeys(name.split("/")[0] for name in modules()):
        parts = [f"# {int(chapter[:2])} {title_of(chapter[3:])}"]
        for module in [module for name, module in modules().items() if name.startswith(f"{chapter}/")]:
            table = api_table(module)
            about = f"`{module}`: {importlib.import_module(module).__doc__}"
            parts += [f"## {title_of(module.rpartition('.')[2])}", about, "\n".join(table)] if table else []
        (folder / f"{chapter}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_data_pages(source):
    """The dictionary of columns, from the library's own table."""
    from elasticc_hc.conversion.schema import data_dictionary

    table = data_dictionary().reset_index()
    rows = [list(table.columns), ["---"] * len(table.columns), *table.fillna("").astype(str).to_numpy().tolist()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines[2:] = [re.sub(r"^\| (\S+) ", r"| `\1` ", line) for line in lines[2:]]
    (source / "data/dictionary.md").write_text("# Dictionary of columns\n\n" + (source / "data/dictionary.md").read_text().split("\n", 2)[2]
                                               + "\n" + "\n".join(lines) + "\n", encoding="utf-8")  # fmt: skip
