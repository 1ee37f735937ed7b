"""The site by Quarto, where someone asks for it: `make docs ENGINE=quarto`. Its pages are then made to work without a network."""
import html
import json
import os
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from urllib.parse import urldefrag

import api
import pages
import sections

STATIC = Path(__file__).resolve().parent / "static"
MATHJAX = "site_libs/mathjax/tex-svg-full.js"
ONLINE = re.compile(  # what Quarto's pages fetch and do without: fonts, polyfill, require.js, jQuery and its registration
    r"<script\b[^>]*\ssrc=\"(?:https?:)?//[^\"]*(?:polyfill|require|jquery)[^\"]*\"[^>]*>\s*</script>\s*"
    r"|<script\b[^>]*>\s*define\(['\"]jquery['\"].*?</script>\s*"
    r"|<link\b[^>]*\shref=\"(?:https?:)?//[^\"]*(?:fonts\.|/fonts)[^\"]*\"[^>]*>\s*", re.S)
FETCHED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\ssrc=\"((?:https?:)?//[^\"]+)\""
                     r"|<link\b(?=[^>]*\srel=\"[^\"]*(?:stylesheet|preload|icon)[^\"]*\")[^>]*\shref=\"((?:https?:)?//[^\"]+)\"")


def build(sidebar):
    """Render the processed notebooks and the pages written here into _docs."""
    names = api.modules(sidebar)
    anchors = pages.headings()
    links = pages.Links(anchors, {full.removeprefix(f"{pages.cfg.lib_name}."): a for full, a in api.anchors(names).items()},
                        {pages.page(nb): pages.module(nb) for nb in pages.notebooks()})
    for nb in pages.notebooks():
        book = json.loads((pages.PROC / nb).read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown": cell["source"] = pages.add_signatures("".join(cell["source"]), nb, links)
        (pages.PROC / nb).write_text(json.dumps(book), encoding="utf-8")
    for e in (e for top in sidebar for e in top.walk() if (e.source or "").endswith(".qmd")):
        text = api.markdown(names, links.heading, sphinx=False) if e.page == "api" else sections.markdown(e)
        title, description, body = re.fullmatch(r"# ([^\n]+)\n\n(?:> ([^\n]+)\n\n)?(.*)", text, re.S).groups()
        front = f"---\ntitle: {json.dumps(title)}\n" + (f"description: {json.dumps(description)}\n" if description else "") + "---\n\n"
        (pages.PROC / e.source).parent.mkdir(parents=True, exist_ok=True)
        (pages.PROC / e.source).write_text(front + body, encoding="utf-8")
    for file in pages.ROOT / "_quarto.yml", pages.NBS / "nbdev.yml", STATIC / "site.scss", STATIC / "favicon.svg":
        shutil.copy(file, pages.PROC)
    made = pages.PROC / pages.OUT.name
    shutil.rmtree(made, ignore_errors=True)
    subprocess.run(["quarto", "render", "--no-cache"], cwd=pages.PROC, check=True)
    pages.bring("sphinx-mathjax-offline", "tex-svg-full.js", folder=made / "site_libs/mathjax")
    finish(made, links)
    (made / "objects.inv").write_bytes(inventory(names))
    shutil.rmtree(pages.OUT, ignore_errors=True)
    shutil.move(made, pages.OUT)
    print("From a file:// address Quarto's search cannot work; it does after `python -m http.server -d _docs`")


def finish(site, links):
    """Take out of the pages what they fetch from other machines, and make the links between them relative; check both."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    ids = {path: set(map(html.unescape, re.findall(r'\sid="([^"]+)"', text))) for path, text in texts.items()}
    faults = []
    for path, text in texts.items():
        text, found = _finished(site, path, text, ids, links)
        faults += found
        path.write_text(text, encoding="utf-8")
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"@import\s*(?:url\()?[\"']?(?:https?:)?//[^;]*;", "", text)
        if found := re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", text): faults.append(f"{path.name} fetches {', '.join(found)}")
        path.write_text(text, encoding="utf-8")
    if faults: raise SystemExit("\n".join(faults))


def _finished(site, path, text, ids, links):
    """One page without what it fetched and with relative links; and what is wrong with it."""
    here, faults = path.relative_to(site), []
    text = ONLINE.sub("", text)
    text = re.sub(r"(<script\b[^>]*\ssrc=\")(?:https?:)?//[^\"]*mathjax[^\"]*\"",
                  lambda m: f'{m[1]}{os.path.relpath(MATHJAX, here.parent)}"', text, flags=re.I)

    def relative(m):
        target, anchor = urldefrag(html.unescape(m[1]))
        file = site / (target or "index.html")
        if anchor and file in ids and anchor not in ids[file]:
            if anchor.split(".")[-1].startswith("_"): anchor = ""  # what is private has no entry
            elif entry := links.entry(Path(target).with_suffix("").as_posix(), anchor): file, anchor = site / "api.html", entry
            else: faults.append(f"{here} links to {m[1]}, but there is no such anchor, nor an entry in the API reference")
        elif not file.exists(): faults.append(f"{here} links to {m[1]}, which does not exist")
        to = Path(os.path.relpath(file, path.parent)).as_posix()
        return f'href="{to}{"#" + anchor if anchor else ""}"'

    text = re.sub(rf'href="{re.escape(pages.DOCS)}([^"]*)"', relative, text)
    return text, [*faults, *(f"{here} fetches {one or other}" for one, other in FETCHED.findall(text))]


def inventory(names):
    """objects.inv, in Sphinx's format: what other projects need to link to ours."""
    entries = [(n.full, n.public, n.kind) for _, _, top in names for t in top for n in (t, *t.members)]
    lines = [f"{name} py:{kind} 1 api.html#{public} -" for full, public, kind in entries for name in dict.fromkeys((public, full))]
    head = f"# Sphinx inventory version 2\n# Project: {pages.cfg.title}\n# Version: {pages.cfg.version}\n"
    return head.encode() + b"# The remainder of this file is compressed using zlib.\n" + zlib.compress("\n".join(lines).encode() + b"\n", 9)
