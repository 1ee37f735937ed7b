"""Copies of the notebooks for Google Colab: `python docs/colab.py FOLDER`; the site's workflow puts them on the branch `colab`.

Colab opens a notebook alone, without the package. A cell that installs it would be the first thing on every page and do nothing
anywhere else, so it stands only in these copies, whose links lead on within Colab.
"""
import json
import re
import sys
from pathlib import Path, PurePosixPath

import pages

BRANCH = "colab"
HUB = f"https://colab.research.google.com/github/{pages.cfg.user}/{pages.cfg.repo}/blob/{BRANCH}"
TOOLS = "nbdev", "fastcore", "execnb", "ghapi", "sympy", "scikit-learn", "tqdm"  # what the pages import besides


def install():
    """The line that installs the package as it is on the main branch, and what its pages need."""
    tools = [r for r in pages.cfg.dev_requirements.split() if re.match(r"[\w-]+", r)[0] in TOOLS]
    package = f"{pages.cfg.lib_name}[plot] @ git+{pages.cfg.git_url}@{pages.cfg.branch}"
    return "%pip install -q " + " ".join(f'"{r}"' for r in (package, *tools))


def copy(nb):
    """The text of a notebook's copy."""
    book = json.loads((pages.NBS / nb).read_text(encoding="utf-8"))

    def link(m):
        path, _, anchor = m[2].partition("#")
        target = PurePosixPath(((pages.NBS / nb).parent / path).resolve().relative_to(pages.ROOT))
        if path.endswith(".ipynb"): return f"{m[1]}{HUB}/{target.relative_to('nbs')}{'#' + anchor if anchor else ''}"
        return f"{m[1]}{pages.GIT}{target}"

    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = re.sub(r"(\]\()(?![a-z]+:|#)([^)\s]+)", link, "".join(cell["source"]))
    first = {"cell_type": "code", "execution_count": None, "id": "install", "metadata": {}, "outputs": [], "source": install()}
    book["cells"].insert(1, first)  # after the title
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for nb in pages.notebooks():
        file = Path(sys.argv[1]) / nb
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(copy(nb), encoding="utf-8")
