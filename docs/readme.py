"""Write README.md (and the pictures it needs) from nbs/index.ipynb; with --check, only say whether they are up to date.

`nbdev_readme` does this where Quarto is installed; this needs nbdev and nothing else. nbdev's own processors honour the
`#|` directives; links and pictures are rewritten so that they work from the root of the repository.
"""

import base64
import posixpath
import re
import sys
from pathlib import Path

from nbdev.process import NBProcessor
from nbdev.processors import (
    clean_magics,
    filter_stream_,
    hide_,
    hide_line,
    insert_warning,
    rm_export,
    rm_header_dash,
    strip_ansi,
)

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = [strip_ansi, hide_line, filter_stream_, rm_header_dash, rm_export, clean_magics, hide_, insert_warning]
LINK = re.compile(r"""(\]\(\s*|\b(?:src|href)=["'])([^)\s"'#]+)""")
ABSOLUTE = re.compile(r"[a-zA-Z][\w+.-]*:|/")


def text(value):
    """The notebook format's text: a string, or a list of lines."""
    return value if isinstance(value, str) else "".join(value or [])


def from_root(markdown):
    """Links that are relative to nbs/, rewritten relative to the root; code is left alone."""

    def rewrite(match):
        target = match[2]
        return match[1] + (target if ABSOLUTE.match(target) else posixpath.normpath(posixpath.join("nbs", target)))

    parts = re.split(r"(```.*?```|`[^`\n]+`)", markdown, flags=re.DOTALL)
    return "".join(part if i % 2 else LINK.sub(rewrite, part) for i, part in enumerate(parts))


def output_markdown(output, pictures):
    """One stored output as Markdown; a PNG goes to `pictures` under the name the Markdown uses."""
    if output["output_type"] == "stream":
        plain = text(output["text"])
    else:
        data = output.get("data", {})
        if "text/markdown" in data:
            return from_root(text(data["text/markdown"]))
        if "image/png" in data:
            name = f"images/readme_{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode(text(data["image/png"]))
            return f"![]({name})"
        if "text/html" in data:
            return re.sub(r"<style.*?</style>", "", text(data["text/html"]), flags=re.DOTALL)
        plain = text(data.get("text/plain"))
    return f"```text\n{plain.rstrip()}\n```" if plain.strip() else ""


def cell_markdown(cell, pictures):
    """One cell as Markdown blocks."""
    source = text(cell.source)
    if cell.cell_type != "code":
        return [from_root(source)]
    off = {name.rstrip(":") for name, value in cell.directives_.items() if value and value[0].lower() == "false"}
    if "include" in off:
        return []
    code = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()
    blocks = [f"```python\n{code}\n```"] if code and "echo" not in off else []
    return blocks + ([] if "output" in off else [output_markdown(o, pictures) for o in cell.get("outputs", [])])


def render(root=ROOT):
    """The README and its pictures: file name, relative to the root, to bytes."""
    notebook = NBProcessor(root / "nbs/index.ipynb", procs=PROCESSORS, process=True).nb
    pictures = {}
    blocks = [block.strip("\n") for cell in notebook.cells for block in cell_markdown(cell, pictures)]
    return {"README.md": ("\n\n".join(block for block in blocks if block) + "\n").encode(), **pictures}


def main(root=ROOT):
    """Write the files, or with --check exit with 1 and their names where they differ."""
    files = render(root)
    stale = [name for name, data in files.items() if not (root / name).exists() or (root / name).read_bytes() != data]
    if "--check" in sys.argv:
        sys.exit(f"not up to date with nbs/index.ipynb: {', '.join(stale)}; run: make readme" if stale else 0)
    for name in stale:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(files[name])
    print(f"README.md: {'written' if stale else 'up to date'}")


if __name__ == "__main__":
    main()
