"""The Quarto route, with a stand-in for Quarto: what is handed to it, and what is made of its pages. Quarto itself is not run."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = r'''#!{python}
"""Writes for each page what Quarto's pages look like to our last step; Pandoc's part is markdown-it's."""
import json, re, sys
from pathlib import Path
from markdown_it import MarkdownIt
assert sys.argv[1:] == ["render", "--no-cache"], sys.argv
assert Path("_quarto.yml").exists() and Path("nbdev.yml").exists() and Path("site.scss").exists()
out, md = Path("_docs"), MarkdownIt("commonmark", {{"html": True}}).enable("table")
HEAD = """<script src="https://polyfill.io/v3/polyfill.min.js?features=es6"></script>
<script src="https://cdn.jsdelivr.net/npm/requirejs@2.3.6/require.min.js" integrity="sha384" crossorigin="anonymous"></script>
<script src="https://cdn.jsdelivr.net/npm/jquery@3.5.1/dist/jquery.min.js" integrity="sha384" data-relocate-top="true"></script>
<script type="application/javascript">define('jquery', [],function() {{return window.jQuery;}})</script>
<script src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-chtml-full.js" type="text/javascript"></script>
<link href="https://fonts.googleapis.com/css?family=Source+Sans+Pro" rel="stylesheet">
<link href="site_libs/bootstrap.css" rel="stylesheet">"""
for page in [*Path().rglob("*.ipynb"), *Path().rglob("*.qmd")]:
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")
        text += "\n\n".join("".join(o.get("data", {{}}).get("text/markdown", "")) for c in cells for o in c.get("outputs", []))
    else: text = page.read_text()
    name = re.search(r"output-file: (\S+)", text)
    file = out / page.parent / (name[1] if name else page.with_suffix(".html").name)
    body = md.render(re.sub(r"^---\n.*?\n---\n", "", text, count=1, flags=re.S))
    body = re.sub(r"<h(\d)>(.*?) \{{#(\S+?)\}}</h", r'<h\1 id="\3">\2</h', body)
    body = re.sub(r"<h(\d)>(.*?)</h", lambda m: f'<h{{m[1]}} id="{{re.sub("<.*?>", "", m[2]).lower().replace(" ", "-")}}">{{m[2]}}</h', body)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<html><head>{{HEAD}}</head><body><main>{{body}}</main></body></html>")
(out / "site_libs").mkdir()
(out / "site_libs/bootstrap.css").write_text('@import url("https://fonts.googleapis.com/css2?family=Inter");\nbody {{ margin: 0 }}')
'''


def build(root, *engine, path=None):
    env = os.environ | {"PYTHONPATH": str(root)} | ({"PATH": path} if path else {})
    return subprocess.run([sys.executable, "docs/build.py", *engine], cwd=root, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, and a PATH on which there is a `quarto`."""
    root = tmp_path_factory.mktemp("project")
    for name in "nbs", "docs", "optim_nb": shutil.copytree(ROOT / name, root / name, symlinks=True)
    for name in "settings.ini", "_quarto.yml", "README.md": shutil.copy(ROOT / name, root)
    script = tmp_path_factory.mktemp("bin") / "quarto"
    script.write_text(STAND_IN.format(python=sys.executable))
    script.chmod(0o755)
    return root, f"{script.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def site(project):
    root, path = project
    (root / "_proc").mkdir(exist_ok=True)
    (root / "_proc/left.html").write_text("by another engine")
    run = build(root, "quarto", path=path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "http.server" in run.stdout
    return root / "_docs"


def test_quarto_must_be_there_when_it_is_asked_for(project, tmp_path):
    run = build(project[0], "quarto", path=str(tmp_path))
    assert run.returncode and "no quarto on PATH" in run.stderr
    run = build(project[0], "hugo")
    assert run.returncode and "sphinx or quarto" in run.stderr


def test_what_another_engine_left_is_gone(site): assert not (site.parent / "_proc/left.html").exists()


def test_the_repository_stays_as_it_was(site):
    root = site.parent
    assert (root / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    assert not list(root.rglob("index_files"))


def test_signatures_stand_in_tables(site):
    text = (site / "optimizers/adam.html").read_text()
    assert re.search(r"<td><code>betas</code></td>(\s*<td>.*?</td>)?\s*<td><code>\(0.9, 0.999\)</code></td>", text), "the renderer of docs/showdoc.py"
    assert 'api.html#optim_nb.Adam' in text, "the card links to the signature"


def test_nothing_is_fetched_and_links_are_relative(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<(script|link)[^>]*(https?:)?//|define\('jquery'", text), path
        assert "https://optim-nb.github.io" not in text, path
        mathjax = re.search(r'src="([^"]*mathjax[^"]*)"', text)[1]
        assert (path.parent / mathjax).resolve().is_file()
    assert "googleapis" not in (site / "site_libs/bootstrap.css").read_text()
    assert '"../kernels.html#fused"' in (site / "optimizers/adam.html").read_text()


def test_generated_pages_and_inventory(site):
    index = (site / "optimizers/index.html").read_text()
    assert "<svg" in index and "sparse_adam.html" in index
    assert 'id="optim_nb.Optimizer.zero_grad"' in (site / "api.html").read_text()
    from sphinx.util.inventory import InventoryFile
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    assert inventory["py:class"]["optim_nb.Adam"].uri == inventory["py:class"]["optim_nb.optimizers.adam.Adam"].uri == "api.html#optim_nb.Adam"


@pytest.mark.parametrize("href, fault", [
    ("kernels.html#no_such_name", "no such anchor"), ("nowhere.html", "does not exist"), (None, "fetches https://cdn.example.org/x.js"),
])
def test_a_dead_link_and_a_fetch_are_errors(site, tmp_path, href, fault):
    (tmp_path / "kernels.html").write_text("<html></html>")
    page = f'<a href="https://optim-nb.github.io/optim_nb/{href}">x</a>' if href else '<script src="https://cdn.example.org/x.js"></script>'
    (tmp_path / "index.html").write_text(page)
    code = (f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); from pathlib import Path; import pages, quarto; "
            f"quarto.finish(Path({str(tmp_path)!r}), pages.Links({{}}, {{}}, {{}}))")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode and fault in run.stderr, run.stderr


def test_a_quarto_on_path_changes_nothing_by_default(project, site, tmp_path):
    (tmp_path / "quarto").write_text("#!/bin/sh\ntouch \"$(dirname \"$0\")/called\"; exit 1\n")
    (tmp_path / "quarto").chmod(0o755)
    root = project[0]
    for nb in json.loads((root / "_proc/digests.json").read_text()): assert nb == "look" or (root / "nbs" / nb).exists()
    run = build(root, path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert not (tmp_path / "called").exists()
    assert "pydata" in (root / "_docs/index.html").read_text() and not (root / "_docs/site_libs").exists()
