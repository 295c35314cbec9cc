"""The Python blocks of README and of the documentation's pages, and running them.

The blocks of one page share a namespace, from the first to the last, and a folder.
"""

import contextlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def pages():
    """Returns the paths of README and of the documentation's pages that have Python blocks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if blocks(path)]


def blocks(path):
    """Returns the Python blocks of a page, a list of pairs: line number, code."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


def run(path, folder):
    """Runs the blocks of a page in `folder`, and returns their namespace.

    An error's traceback names the page and the line in it.
    """
    namespace = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for line, code in blocks(path):
            exec(compile("\n" * line + code, str(path), "exec"), namespace)
    return namespace


def shown(path):
    """Returns the names of the pictures that a page shows from docs/pictures."""
    return re.findall(r"!\[[^\]]*\]\([^)]*?pictures/([^)]+)\)", path.read_text(encoding="utf-8"))
