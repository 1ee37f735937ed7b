"""From a notebook in nbs/ to the page that Sphinx reads: nbdev's processors, then what the two formats say differently."""
import json
import os
import re
import warnings
from pathlib import Path

import yaml
from execnb.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.doclinks import _nbpath2html
from nbdev.processors import FilterDefaults

ROOT = Path(__file__).resolve().parent.parent
cfg = get_config()
NBS, PROC, SITE, OUT = cfg.nbs_path, ROOT / "_proc", ROOT / "_proc" / "site", cfg.doc_path
GIT = f"{cfg.git_url}/blob/{cfg.branch}/"
DOCS = f"{cfg.doc_host}{cfg.doc_baseurl}/"


def notebooks():
    """The notebooks that make pages, relative to nbs/; a name starting with _ or . is a draft."""
    return sorted(p for p in (f.relative_to(NBS) for f in NBS.rglob("*.ipynb")) if not any(s[0] in "_." for s in p.parts))


def page(nb):
    """nbdev's name of a notebook's page: `optimizers/02_adam.ipynb` → `optimizers/adam`."""
    return _nbpath2html(Path(nb)).with_suffix("").as_posix()


def slug(title):
    """A heading's anchor, as Quarto and nbdev make it: `Adam.step` → `adam.step`."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", title.lower()).strip())


def title(nb):
    """A notebook's title: its first `# heading`."""
    cells = json.loads((NBS / nb).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    if not (heading := re.search(r"^# (.+)", text, re.M)): raise SystemExit(f"nbs/{nb} has no title (a cell with '# …')")
    return heading[1]


def site_map():
    """Sidebar `[(section, [(text, page)])]` and navbar `[(text, page)]` of _quarto.yml, checked against nbs/."""
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    found = {nb.as_posix() for nb in notebooks()}

    def entry(e):
        nb = e if isinstance(e, str) else e["href"]
        if nb not in found: raise SystemExit(f"_quarto.yml lists {nb}, but there is no notebook nbs/{nb}")
        return (title(nb) if isinstance(e, str) else e.get("text") or title(nb)), page(nb)

    sidebar = []
    for e in site["sidebar"]["contents"]:
        section = isinstance(e, dict) and e.get("section")
        if section or not sidebar: sidebar.append((section or "", []))
        sidebar[-1][1].extend(entry(x) for x in (e["contents"] if section else [e]))
    missing = {page(nb): nb for nb in found}.keys() - {p for _, entries in sidebar for _, p in entries}
    if missing: raise SystemExit(f"_quarto.yml's sidebar does not list {', '.join(sorted(missing))}")
    return sidebar, [entry(e) for e in site["navbar"].get("left", [])]


def process(nb):
    """nbdev's processing of one notebook, which runs what `show_doc` needs, into _proc/; called in a worker process."""
    cfg.d["renderer"] = "showdoc.ParameterTable"
    os.environ.update(IN_TEST="1", MPLBACKEND="agg")  # IN_TEST: an nbdev_export() in a notebook does nothing
    warnings.filterwarnings("ignore", "Found cells containing imports and other code")
    notebook = read_nb(NBS / nb)
    try: FilterDefaults()(notebook)
    except Exception as e:  # its cause is an error in the notebook's code, which a worker process cannot hand over
        hint = "\nOnly imports, exports and show_doc run here: give imports cells of their own." if e.__cause__ else ""
        raise RuntimeError(f"{e}\n{e.__cause__ or ''}{hint}") from None
    (PROC / nb).parent.mkdir(parents=True, exist_ok=True)
    write_nb(notebook, PROC / nb)


def write_pages(sidebar):
    """Write a Sphinx page for every notebook in _proc/; a page that has not changed is left untouched."""
    read = {nb: json.loads((PROC / nb).read_text(encoding="utf-8")) for nb in notebooks()}
    anchors = {page(nb): {slug(h) for c in book["cells"] for o in c.get("outputs", [])
                          for h in re.findall(r"^#+ (.+)", _markdown(o), re.M)} for nb, book in read.items()}
    for nb, book in read.items():
        cells = [new for cell in book["cells"] for new in _cells(cell, nb, anchors)]
        if page(nb) == "index":
            pages = "\n".join(p for _, entries in sidebar for _, p in entries if p != "index")
            cells.append(_md(f"```{{toctree}}\n:hidden:\n\n{pages}\n```"))
        book = {"cells": cells, "nbformat": 4, "nbformat_minor": 4,
                "metadata": {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}}
        dst, text = SITE / f"{page(nb)}.ipynb", json.dumps(book)
        dst.parent.mkdir(parents=True, exist_ok=True)
        if not dst.exists() or dst.read_text(encoding="utf-8") != text: dst.write_text(text, encoding="utf-8")


def _md(source): return {"cell_type": "markdown", "metadata": {}, "source": source}
def _markdown(output): return "".join(output.get("data", {}).get("text/markdown", ""))


def _cells(cell, nb, anchors):
    """What one processed cell becomes."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "raw":  # nbdev moved the title into front matter, and dropped what followed it in that cell
        original = json.loads((NBS / nb).read_text(encoding="utf-8"))["cells"]
        first = next(c for c in original if c["cell_type"] == "markdown" and re.search("^# ", "".join(c["source"]), re.M))
        return [_md(_links("".join(first["source"]), nb, anchors))]
    if cell["cell_type"] == "markdown":
        return [] if source.startswith("<!-- WARNING") else [_md(_links(source, nb, anchors))]
    options = dict(re.findall(r"^#\|\s*([\w-]+):\s*(.*?)\s*$", source, re.M))
    if options.get("output") == "asis":  # headings inside outputs would be no sections
        return [_md(_show_doc(_links(_markdown(o), nb, anchors))) for o in cell["outputs"]]
    tags = [tag for key, value, tag in [
        ("code-fold", "true", "hide-input"), ("code-fold", "show", "exported"), ("echo", "false", "remove-input"),
        ("output", "false", "remove-output"), ("include", "false", "remove-cell")] if options.get(key) == value]
    meta = {"tags": tags, "mystnb": {"code_prompt_show": options.get("code-summary", "Code").strip('"\'')}}
    for o in cell["outputs"]:
        for kind in {"text/html", "text/markdown"} & o.get("data", {}).keys():
            text = "".join(o["data"][kind])
            o["data"][kind] = re.sub(r"<link[^>]*>", "", text) if kind == "text/html" else _links(text, nb, anchors)
    return [cell | {"source": re.sub(r"^#\|.*\n?", "", source, flags=re.M), "metadata": meta}]


def _show_doc(text):
    """Set the symbol's name as code, make its source link quiet, and take the links off its parameters' names."""
    text = re.sub(r"^\| \[(`\*{0,2}\w+`)\]\([^)]+\)", r"| \1", text, flags=re.M)
    text = re.sub(r"^(#+) (.+)$", lambda m: f"{m[1]} `{m[2].replace(chr(92), '')}`", text, count=1, flags=re.M)
    return re.sub(r"^\[source\]\((.+?)\)$", r'<a class="source" href="\1">source</a>', text, count=1, flags=re.M)


def _links(text, nb, anchors):
    """Links of nbdev, between notebooks and to files of the repository → links that hold on this site (and are checked)."""
    here = Path(page(nb)).parent
    def relative(target): return Path(os.path.relpath(target, here)).as_posix()

    def doc(m):  # of a symbol: to its own heading, else its class's, else the page
        names = [m[2] or "", (m[2] or "").split(".")[0]]
        anchor = next((f"#{a}" for a in names if a in anchors.get(m[1], ())), "")
        return f"{relative(m[1])}.ipynb{anchor}"

    def link(m):
        path, _, anchor = m[2].partition("#")
        anchor = f"#{slug(anchor)}" if anchor else ""
        target = (NBS / nb).parent / path
        if path.endswith(".ipynb"): return f"{m[1]}{relative(page(os.path.relpath(target, NBS)))}.ipynb{anchor}"
        if path and target.exists(): return m[1] + GIT + Path(os.path.relpath(target, ROOT)).as_posix() + anchor
        return m[1] + path + anchor

    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    for i, part in enumerate(parts):
        if i % 2: parts[i] = re.sub(rf"\[(`[^`\n]+`)\]\({re.escape(DOCS)}[^)\s]*\)", r"\1", part)
        else:
            part = re.sub(r"(\]\(|^\[[^\]]+\]: |href=\")(?![a-z]+:)([^)\s\"]+)", link, part, flags=re.M)
            part = re.sub(rf"{re.escape(DOCS)}([\w/.-]+?)\.html(?:#([\w.]+))?", doc, part)
            parts[i] = re.sub(rf"{re.escape(GIT + cfg.lib_name)}/(\S+?)\.py(?:#L(\d+))",
                              lambda m: f"{relative('source')}/{cfg.lib_name}/{m[1]}.html#L-{m[2]}", part)
    return "".join(parts)
