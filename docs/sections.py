"""Index pages of the sidebar's sections: what the pages' titles, descriptions and cards say, as tables."""
import json
import os
import re
from pathlib import Path

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


def table(entries, folder):
    """One row for each page: title and description, and those of the columns that some card fills."""
    cards = {e.source: card(e.source) for e in entries}

    def value(entry, pattern, first):
        found = next((v for k, v in cards[entry.source].items() if re.match(pattern, k, re.I)), "")
        found = found.split(";")[0] if first else found
        return re.sub(r"\]\((?![a-z]+:)([^)#]+)", lambda m: f"]({moved(entry.source, m[1])}", found)

    def moved(source, target): return Path(os.path.relpath(Path(source).parent / target, folder)).as_posix()

    columns = {h: how for h, how in COLUMNS.items() if any(value(e, *how) for e in entries)}
    rows = [["Page", *columns], ["---"] * (1 + len(columns))]
    for e in entries:
        about = pages.title_cell(e.source)[1]
        name = f"[{e.text}]({Path(os.path.relpath(e.source, folder)).as_posix()})"
        rows.append([f"**{name}**" + (f" {about}" if about else ""), *(value(e, *how) for how in columns.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def markdown(section):
    """The page of one section: its words, its own pages, then a heading and a table for each group."""
    words = WORDS / Path(section.source).with_suffix(".md")
    parts = [f"# {section.text}", words.read_text(encoding="utf-8").strip() if words.exists() else ""]
    folder = Path(section.source).parent
    if own := [e for e in section.entries if not e.entries]: parts.append(table(own, folder))
    for group in section.entries:
        if group.entries: parts += [f"## {group.text}", table([e for e in group.walk() if e.page], folder)]
    return "\n\n".join(filter(None, parts)) + "\n"
