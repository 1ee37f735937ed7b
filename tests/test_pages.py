"""What is committed in a notebook: small, run, fit to be read, and laid out as a page."""
import ast, json, re, sys, tempfile
from pathlib import Path
import pytest
from conftest import ROOT

NBS = ROOT / "nbs"
NOTEBOOKS = sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
NAMES = [p.relative_to(NBS).as_posix() for p in NOTEBOOKS]
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
COLUMNS = 92

# Pages that do not keep a rule yet. The lists can only shrink: a page that keeps the rule must be taken out.
# `python tests/test_pages.py` prints what is left of them.
TODO: dict[str, set[str]] = {}


def cells(path, kind=("code", "markdown")):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] in kind]

def source(cell): return "".join(cell["source"])

def is_folded(cell): return cell["metadata"].get("jupyter", {}).get("source_hidden", False)

def is_plumbing(cell):
    "What a reader need not see first: set-up, hidden checks, imports that are exported."
    if re.match(r"#\| *(default_exp|hide)\b(?!-)", source(cell)): return True
    if not re.match(r"#\| *export\b", source(cell)): return False
    return all(isinstance(line, ast.Import | ast.ImportFrom) for line in ast.parse(source(cell)).body)

def draws(cell):
    shown = [out.get("data", {}) for out in cell.get("outputs", [])]
    return any("image/png" in data or "<img" in "".join(data.get("text/html", "")) for data in shown)


# ---- rules with a list of pages that do not keep them yet: each yields what is wrong

def columns(path):
    "Code is at most 92 columns wide."
    for cell in cells(path):
        code = [source(cell)] if cell["cell_type"] == "code" else re.findall(r"^```.*?^```", source(cell), re.M | re.S)
        for line in "\n".join(code).splitlines():
            if len(line) > COLUMNS and not line.startswith("#|"): yield f"{len(line)} columns: {line}"


def title_first(path):
    "The first cell is the title and one line of description, no more; the intro is a cell of its own."
    first, second = cells(path)[:2]
    if not re.fullmatch(r"# .+\n+> .+\n?", source(first)): yield f"the first cell is not a title and a description: {source(first)[:200]}"
    if second["cell_type"] != "markdown": yield "the second cell is not the intro"


def plumbing_folded(path):
    """Set-up, hidden cells and solutions are folded in JupyterLab, by the metadata {"jupyter": {"source_hidden": true}}."""
    for cell in cells(path, "code"):
        solution = re.search(r"^#\| *code-fold: *true", source(cell), re.M)
        if (solution or is_plumbing(cell)) and not is_folded(cell): yield f"not folded: {source(cell)[:80]}"


def figures(path):
    "A figure has an alt text of five words or more, and a caption in italics in the cell that follows."
    every = cells(path)
    for cell, after in zip(every, [*every[1:], None]):
        if not draws(cell): continue
        head = next((line for line in source(cell).splitlines() if line.strip() and not line.startswith("#|")), "")
        alt = re.search(r"^#\| *fig-alt: *(.+)", source(cell), re.M)
        if not alt or len(alt[1].split()) < 5: yield f"no alt text: {head}"
        if not after or after["cell_type"] != "markdown" or not re.match(r"\*[^*\s]", source(after)): yield f"no caption: {head}"


RULES = columns, title_first, plumbing_folded, figures


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES, ids=lambda f: f.__name__)
def test_a_page_keeps(rule, name):
    todo = TODO.get(rule.__name__, set())
    assert todo <= set(NAMES)
    found = list(rule(NBS / name))
    if name in todo: assert found, f"{name} keeps this rule now: take it out of TODO at the top of this file"
    else: assert not found, "\n".join([rule.__doc__, *found])


# ---- rules that every page keeps

@notebooks
def test_a_notebook_is_small_and_was_run(path):
    assert path.stat().st_size < 1_000_000
    code = [c for c in cells(path, "code") if not re.match(r"#\| *(default_exp|exports?|hide)\b", source(c))]
    if code: assert any(c["outputs"] for c in code), "run it: outputs are committed"


@notebooks
def test_outputs_are_fit_to_be_read(path):
    machine = [str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix, "site-packages", "/home/", "/Users/", "ipykernel"]
    for cell in cells(path, "code"):
        for out in cell["outputs"]:
            assert out["output_type"] != "error" and out.get("name") != "stderr", source(cell)
            text = json.dumps({k: v for k, v in out.get("data", {}).items() if not k.startswith("image/")}) + "".join(out.get("text", ""))
            assert "Warning" not in text or "Warning" in source(cell), source(cell)
            assert not re.search(r"<[\w.]+ (object )?at 0x[0-9a-f]+>", text), source(cell)
            assert [m for m in machine if m in text] == [], source(cell)


@notebooks
def test_a_notebook_begins_as_a_page(path):
    every = cells(path)
    lines = source(next(c for c in every if c["cell_type"] == "markdown")).splitlines()
    assert lines[0].startswith("# ") and any(line.startswith("> ") for line in lines[:4])
    exports = any(source(c).startswith("#| default_exp") for c in every[:8])
    assert bool(re.match(r"\d\d_", path.name)) == exports


@notebooks
def test_markdown_renders_everywhere(path):
    for cell in cells(path, "markdown"):
        text = re.sub(r"```.*?```|`[^`]*`", "", source(cell), flags=re.S)
        for never in (":::", "@fig-", "{{<", "> [!", r"\color{", r"\(", r"\["): assert never not in text, text
        assert text.count("$$") % 2 == 0, text


def test_every_module_has_a_notebook():
    named = {".".join([*p.relative_to(NBS).parts[:-1], p.stem[3:]]) for p in NOTEBOOKS if re.match(r"\d\d_", p.name)}
    modules = {".".join(p.relative_to(ROOT / "optim_nb").with_suffix("").parts) for p in (ROOT / "optim_nb").rglob("*.py") if not p.name.startswith("_")}
    assert named == modules


if __name__ == "__main__":
    for rule in RULES: print(rule.__name__, sorted(n for n in TODO.get(rule.__name__, ()) if any(rule(NBS / n))))
