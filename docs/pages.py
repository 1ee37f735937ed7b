"""From a notebook in nbs/ to the page that Sphinx reads: nbdev's processors, then what the two formats say differently."""
import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
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


def title_cell(nb):
    """Title and description of a notebook: its first `# heading`, and the `> line` that follows it (or nothing)."""
    cells = json.loads((NBS / nb).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    if not (found := re.search(r"^# (.+)\n*(?:^> (.+))?", text, re.M)):
        raise SystemExit(f"nbs/{nb} has no title (a cell with '# …')")
    return found[1], found[2] or ""


def module(nb):
    """The module that a notebook exports, or None: `optimizers.adam`."""
    cells = json.loads((NBS / nb).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    return found[1] if (found := re.search(r"^#\|\s*default_exp\s+([\w.]+)", text, re.M)) else None


@dataclass
class Entry:
    """A line of the sidebar: a page, a section with a page of its own, or a group without one."""
    text: str
    page: str | None = None
    source: str | None = None  # notebook, relative to nbs/; or X.qmd, a page written by sections.py or api.py
    entries: list = field(default_factory=list)

    def walk(self): return [self, *(x for e in self.entries for x in e.walk())]


def site_map():
    """Sidebar (a tree) and navbar (a list) of _quarto.yml as `Entry`s, checked against nbs/."""
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    found = {nb.as_posix() for nb in notebooks()}

    def entry(e):
        e = {"href": e} if isinstance(e, str) else e
        source, text = e.get("href"), e.get("section") or e.get("text")
        if source and not source.endswith(".qmd") and source not in found:
            raise SystemExit(f"_quarto.yml lists {source}, but there is no notebook nbs/{source}")
        return Entry(text or title_cell(source)[0], source and page(source), source, [entry(x) for x in e.get("contents", ())])

    sidebar = [entry(e) for e in site["sidebar"]["contents"]]
    listed = {e.source for top in sidebar for e in top.walk()}
    if missing := found - listed: raise SystemExit(f"_quarto.yml's sidebar does not list {', '.join(sorted(missing))}")
    navbar = [entry(e) for e in site["navbar"].get("left", [])]
    if missing := {e.source for e in navbar} - listed: raise SystemExit(f"_quarto.yml's sidebar lacks {missing} of the navbar")
    return sidebar, navbar


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


def headings():
    """The anchors that show_doc makes on each page."""
    read = {nb: json.loads((PROC / nb).read_text(encoding="utf-8")) for nb in notebooks()}
    return {page(nb): {slug(h) for c in book["cells"] for o in c.get("outputs", [])
                       for h in re.findall(r"^#+ (.+)", _markdown(o), re.M)} for nb, book in read.items()}


def bring(package, *names, folder):
    """Copy files out of an installed package, for browsers that have no network; whether the package is there."""
    try: found = {f.name: f.locate() for f in files(package)}
    except PackageNotFoundError: return False
    folder.mkdir(parents=True, exist_ok=True)
    for name in names: shutil.copy(found[name], folder)
    return True


def write_pages(sidebar):
    """Write a Sphinx page for every entry of the sidebar; a page that has not changed is left untouched."""
    import api, sections
    read = {nb: json.loads((PROC / nb).read_text(encoding="utf-8")) for nb in notebooks()}
    names = api.modules(sidebar)
    links = Links(anchors=headings(),
                  api={full.removeprefix(f"{cfg.lib_name}."): anchor for full, anchor in api.anchors(names).items()},
                  modules={page(nb): module(nb) for nb in read})
    listed = [e for top in sidebar for e in top.walk() if e.page]
    for nb, book in read.items():
        cells = [new for cell in book["cells"] for new in _cells(cell, nb, links)]
        if page(nb) == "index":
            cells.append(_md("```{toctree}\n:hidden:\n\n" + "\n".join(e.page for e in listed if e.page != "index") + "\n```"))
        book = {"cells": cells, "nbformat": 4, "nbformat_minor": 4,
                "metadata": {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}}
        _write(SITE / f"{page(nb)}.ipynb", json.dumps(book))
    for e in listed:
        if e.source.endswith(".qmd"):
            text = api.markdown(names, links.heading) if e.page == "api" else sections.markdown(e)
            _write(SITE / f"{e.page}.md", links(text, e.source))


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text: path.write_text(text, encoding="utf-8")


def _md(source): return {"cell_type": "markdown", "metadata": {}, "source": source}
def _markdown(output): return "".join(output.get("data", {}).get("text/markdown", ""))


def _cells(cell, nb, links):
    """What one processed cell becomes."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "raw":  # nbdev moved the title into front matter, and dropped what followed it in that cell
        original = json.loads((NBS / nb).read_text(encoding="utf-8"))["cells"]
        first = next(c for c in original if c["cell_type"] == "markdown" and re.search("^# ", "".join(c["source"]), re.M))
        return [_md(links("".join(first["source"]), nb))]
    if cell["cell_type"] == "markdown":
        return [] if source.startswith("<!-- WARNING") else [_md(links(add_signatures(source, nb, links), nb))]
    options = dict(re.findall(r"^#\|\s*([\w-]+):\s*(.*?)\s*$", source, re.M))
    if options.get("output") == "asis":  # headings inside outputs would be no sections
        return [_md(_show_doc(links(_markdown(o), nb))) for o in cell["outputs"]]
    tags = [tag for key, value, tag in [
        ("code-fold", "true", "hide-input"), ("code-fold", "show", "exported"), ("echo", "false", "remove-input"),
        ("output", "false", "remove-output"), ("include", "false", "remove-cell")] if options.get(key) == value]
    meta = {"tags": tags, "mystnb": {"code_prompt_show": options.get("code-summary", "Code").strip('"\'')}}
    if alt := options.get("fig-alt"): meta["mystnb"]["image"] = {"alt": yaml.safe_load(alt)}
    for o in cell["outputs"]:
        for kind in {"text/html", "text/markdown"} & o.get("data", {}).keys():
            text = "".join(o["data"][kind])
            o["data"][kind] = re.sub(r"<link[^>]*>", "", text) if kind == "text/html" else links(text, nb)
    return [cell | {"source": re.sub(r"^#\|.*\n?", "", source, flags=re.M), "metadata": meta}]


def _show_doc(text):
    """Set the symbol's name as code, make its source link quiet, and take the links off its parameters' names."""
    text = re.sub(r"^\| \[(`\*{0,2}\w+`)\]\([^)]+\)", r"| \1", text, flags=re.M)
    text = re.sub(r"^(#+) (.+)$", lambda m: f"{m[1]} `{m[2].replace(chr(92), '')}`", text, count=1, flags=re.M)
    return re.sub(r"^\[source\]\((.+?)\)$", r'<a class="source" href="\1">source</a>', text, count=1, flags=re.M)


def add_signatures(source, nb, links):
    """Let the card's last row link to the signatures of the page's classes, whatever it links to in the notebook."""
    if not re.match(r"\|\s*\|\s*\|\n", source): return source
    source = re.sub(r"^\| *Signature *\|.*\n?", "", source, flags=re.M)
    classes = {n: a for n, a in links.api.items() if n.rpartition(".")[0] == links.modules[page(nb)] and n.rpartition(".")[2][0].isupper()}
    if not classes: return source
    up = os.path.relpath("api.html", Path(page(nb)).parent)
    return source.rstrip() + "\n| Signature | " + ", ".join(f"[`{n.rpartition('.')[2]}`]({up}#{a})" for n, a in classes.items()) + " |"


@dataclass
class Links:
    """Links of nbdev, between notebooks and to files of the repository → links that hold on this site (and are checked)."""
    anchors: dict  # of each page, the headings that show_doc makes
    api: dict  # `optimizers.adam.Adam` → its anchor on the API page
    modules: dict  # page → module

    def heading(self, page, name):
        """The anchor of a symbol on its page: its own heading, else its class's, else None."""
        return next((a for a in (name.lower(), name.lower().split(".")[0]) if a in self.anchors.get(page, ())), None)

    def entry(self, page, name):
        """The anchor in the API reference of a symbol of a page, whose case nbdev's links have lost; or None."""
        return next((a for n, a in self.api.items() if n.lower() == f"{self.modules.get(page)}.{name}".lower()), None)

    def __call__(self, text, nb):
        nb = Path(nb)
        here = Path(page(nb)).parent
        def relative(target): return Path(os.path.relpath(target, here)).as_posix()

        def doc(m):  # of a symbol: its heading on its page, or its entry in the API reference
            to, name = m[1], m[2]
            if not name or name.split(".")[-1].startswith("_"): return f"{relative(to)}.ipynb"  # what is private has no entry
            if name in self.anchors.get(to, ()): return f"{relative(to)}.ipynb#{name}"
            if anchor := self.entry(to, name): return f"{relative('api.html')}#{anchor}"
            if anchor := self.heading(to, name): return f"{relative(to)}.ipynb#{anchor}"
            raise SystemExit(f"nbs/{nb} links to {name} of {to}, which has neither a heading there nor an entry in the API reference")

        def link(m):
            path, _, anchor = m[2].partition("#")
            if path.endswith(".html"): return m[0]
            anchor = f"#{slug(anchor)}" if anchor else ""
            target = (NBS / nb).parent / path
            if path.endswith(".ipynb"): return f"{m[1]}{relative(page(os.path.relpath(target, NBS)))}.ipynb{anchor}"
            if path.endswith(".qmd"): return f"{m[1]}{relative(page(os.path.relpath(target, NBS)))}.md{anchor}"
            if path and target.exists(): return m[1] + GIT + Path(os.path.relpath(target, ROOT)).as_posix() + anchor
            return m[1] + path + anchor

        parts = re.split(r"(^```(?!`).*?^```$)" if nb.suffix == ".ipynb" else "(?!)(.)", text, flags=re.M | re.S)
        for i, part in enumerate(parts):
            if i % 2: parts[i] = re.sub(rf"\[(`[^`\n]+`)\]\({re.escape(DOCS)}[^)\s]*\)", r"\1", part)
            else:
                part = re.sub(r"(\]\(|^\[[^\]]+\]: |href=\")(?![a-z]+:)([^)\s\"]+)", link, part, flags=re.M)
                part = re.sub(rf"{re.escape(DOCS)}([\w/.-]+?)\.html(?:#([\w.]+))?", doc, part)
                part = re.sub(r"\[([^\]\n]+)\]\(([\w./]*api\.html#[\w.]+)\)", r'<a href="\2">\1</a>', part)
                parts[i] = re.sub(rf"{re.escape(GIT + cfg.lib_name)}/(\S+?)\.py(?:#L(\d+))",
                                  lambda m: f"{relative('source')}/{cfg.lib_name}/{m[1]}.html#L-{m[2]}", part)
        return "".join(parts)
