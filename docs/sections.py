"""Index pages of the sidebar's sections: what the pages' titles, descriptions and cards say, as tables."""
import json
import os
import re
from importlib import import_module
from pathlib import Path

import family
import measures
import pages

WORDS = Path(__file__).resolve().parent / "sections"
COLUMNS = {  # heading: the beginning of a card's label, and whether only what stands before the first semicolon is shown
    "Year, paper": (r"year", True), "Formula": (r"formula", False), "State": (r"state", True),
    "Use it when": (r"use (it|one) when", False),
}


def card(nb):
    """The rows of a page's card, its first table, if that has empty headings: `{label: text}`."""
    for cell in json.loads((pages.NBS / nb).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and re.match(r"\|\s*\|\s*\|\n", text):
            rows = re.findall(r"^\|\s*(\S.*?)\s*\|\s*(.*?)\s*\|$", text, re.M)
            return {label: value for label, value in rows if not label.startswith("-")}
    return {}


def value(cards, source, pattern, folder):
    """What a page's card says in the row whose label begins so, with links that hold in another folder."""
    found = next((v for k, v in cards[source].items() if re.match(pattern, k, re.I)), "")
    def moved(target): return Path(os.path.relpath(Path(source).parent / target, folder)).as_posix()
    return re.sub(r"\]\((?![a-z]+:)([^)#]+)", lambda m: f"]({moved(m[1])}", found)


def named(entry, folder):
    """A page's title, which links to it, and its description."""
    about = pages.title_cell(entry.source)[1]
    name = f"[{entry.text}]({Path(os.path.relpath(entry.source, folder)).as_posix()})"
    return f"**{name}**" + (f" {about}" if about else "")


def rows(head, body):
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def table(entries, folder):
    """One row for each page: title and description, and those of the columns that some card fills."""
    cards = {e.source: card(e.source) for e in entries}

    def cell(entry, pattern, first):
        found = value(cards, entry.source, pattern, folder)
        return found.split(";")[0] if first else found

    columns = {h: how for h, how in COLUMNS.items() if any(cell(e, *how) for e in entries)}
    return rows(["Page", *columns], [[named(e, folder), *(cell(e, *how) for how in columns.values())] for e in entries])


def traffic(text):
    """The bytes of a card's row of memory traffic, else its first clause."""
    if found := re.search(r"(\d+) bytes per (\S+ )?float32", text): return f"{found[1]} {found[2] or ''}".strip()
    return re.split(r"[;:]", text)[0]


def compared(section, folder):
    """The optimizers side by side: what their cards say, and what running them shows."""
    entries = [e for e in section.walk() if e.page and e is not section]
    cards = {e.source: card(e.source) for e in entries}
    body = []
    for e in entries:
        cls = getattr(import_module(f"{pages.cfg.lib_name}.{pages.module(e.source)}"), e.text)
        def said(pattern, e=e): return value(cards, e.source, pattern, folder)
        body.append([named(e, folder), str(family.year(cards[e.source]) or ""), measures.state(cls),
                     traffic(said("memory traffic|work per step")), measures.invariances(cls), said("adds"), said("use (it|one) when")])
    return rows(["Page", "Year", "State, bytes", "A step, bytes", "Path unchanged by", "Adds to its parents", "Use it when"], body)


def markdown(section):
    """The page of one section: its words, its own pages, then a heading and a table for each group."""
    words = WORDS / Path(section.source).with_suffix(".md")
    parts = [f"# {section.text}", words.read_text(encoding="utf-8").strip() if words.exists() else ""]
    folder = Path(section.source).parent
    if "{tree}" in parts[1]:
        made = parts[1].replace("{tree}", family.figure(section, card)).replace("{table}", compared(section, folder))
        return f"{parts[0]}\n\n{made}\n"
    if own := [e for e in section.entries if not e.entries]: parts.append(table(own, folder))
    for group in section.entries:
        if group.entries: parts += [f"## {group.text}", table([e for e in group.walk() if e.page], folder)]
    return "\n\n".join(filter(None, parts)) + "\n"
