"""The family tree of a section: its pages by year and sidebar group, with lines from parents to children, drawn out of the cards."""
import os
import re
from dataclasses import dataclass
from html import escape
from itertools import permutations
from pathlib import Path

import pages

WIDTH, HEIGHT = 106, 42  # of a box
LANE, ROW, LEFT, TOP = 116, 72, 96, 52  # from box to box; of the first box's centre, from the edges
PORT = 18  # between the ends of two lines that arrive at one box
STYLE = """<style>
.family { margin: 1.3rem 0; overflow-x: auto; }
.family svg { display: block; max-width: none; font-family: var(--sans, system-ui, sans-serif); color: inherit; }
.family text { fill: currentColor; text-anchor: middle; }
.family .name { font-size: 14.5px; font-weight: 600; }
.family .year, .family .group { font-size: 12.5px; opacity: .75; }
.family .lines { fill: none; stroke: currentColor; stroke-width: 1.5; opacity: .55; }
.family .beside { stroke-dasharray: 4 4; }
.family .grid { stroke: currentColor; stroke-width: 1; opacity: .14; }
.family rect { fill: var(--pst-color-background, var(--bs-body-bg, Canvas)); stroke: currentColor; stroke-width: 1.25; }
.family a { color: inherit; text-decoration: none; }
.family a:is(:hover, :focus-visible) { color: var(--pst-color-link-hover, var(--bs-link-hover-color)); outline: none; }
.family a:is(:hover, :focus-visible) rect { stroke-width: 2.75; }
</style>"""


@dataclass
class Node:
    """A page of the tree, and the box it is drawn in: `lane` and `row` count from the left and from the top."""
    entry: pages.Entry
    group: str
    year: int | None
    parents: list  # sources of the pages that its card links to, in its order
    row: int = 0
    lane: int = 0

    @property
    def x(self): return LEFT + LANE * self.lane

    @property
    def y(self): return TOP + ROW * self.row


def year(card):
    """The first year that a card names, or None."""
    return int(found[0]) if (found := re.search(r"\b\d{4}\b", next((v for k, v in card.items() if k.startswith("Year")), ""))) else None


def parents(source, card):
    """The pages that a card's row of parents links to."""
    links = re.findall(r"\]\(([^)#:]+\.ipynb)", card.get("Parents", ""))
    return list(dict.fromkeys(Path(os.path.normpath(Path(source).parent / to)).as_posix() for to in links))


def nodes(section, card):
    """Every page of a section, with its place: `card(source)` gives the rows of a page's card."""
    found = [Node(e, group.text, year(card(e.source)), parents(e.source, card(e.source)))
             for group in section.entries for e in group.walk() if e.page]
    known = {n.entry.source: n for n in found}
    for n in found: n.parents = [p for p in n.parents if p in known]

    def generation(n):  # among pages of one year a child stands below its parent
        same = [known[p] for p in n.parents if known[p].year == n.year and p != n.entry.source]
        return 1 + max(map(generation, same), default=-1)

    def when(n): return (n.year or 9999, generation(n))
    rows = {key: i for i, key in enumerate(sorted(set(map(when, found))))}
    for n in found: n.row = rows[when(n)]
    choose_lanes(found, known)
    return found


def choose_lanes(found, known):
    """A lane of its group for each page: exchange those of a row as long as the drawing gets better."""
    choices, first = {}, 0
    for group in dict.fromkeys(n.group for n in found):
        members = [n for n in found if n.group == group]
        rows = [[n for n in members if n.row == row] for row in sorted({n.row for n in members})]
        count = max(round(len(members)**0.5), *map(len, rows))
        for row in rows:
            for i, n in enumerate(row): n.lane = first + i
            choices[group, row[0].row] = row, list(permutations(range(first, first + count), len(row)))
        first += count

    def put(row, lanes):
        for n, lane in zip(row, lanes): n.lane = lane
        return cost(found, known)

    best, before = cost(found, known), None
    while best != before:
        before = best
        for row, lanes in choices.values():
            now = tuple(n.lane for n in row)
            best, _, chosen = min((put(row, new), new != now, new) for new in lanes)
            put(row, chosen)


def gap(parent, child, boxes):
    """The row below which (above which, where time runs backwards) a line turns, and how many boxes it runs through.

    It goes down the parent's lane, across between two rows, and down the child's lane: at the lowest of the rows where the
    fewest boxes are in the way.
    """
    sign = 1 if child.row > parent.row else -1

    def hits(row):
        return (sum((parent.lane, r) in boxes for r in range(parent.row + sign, row + sign, sign))
                + sum((child.lane, r) in boxes for r in range(row + sign, child.row, sign)))

    row = min(range(child.row - sign, parent.row - sign, -sign), key=hits)
    return row, sign, hits(row)


def routes(found, known):
    """`(parent, child, is the first parent, corners, boxes in the way)` for every line."""
    boxes, lines, turns = {(n.lane, n.row) for n in found}, [], {}
    for child in found:
        order = sorted(child.parents, key=lambda p: known[p].lane)
        for p in child.parents:
            row, sign, hits = gap(known[p], child, boxes)
            x = child.x + PORT * (order.index(p) - (len(order) - 1) / 2)
            straight = known[p].lane == child.lane and not hits
            if not straight: turns.setdefault((row, sign), set()).add(known[p].lane)
            lines.append((known[p], child, p == child.parents[0], x, row, sign, straight, hits))

    def corners(parent, child, x, row, sign, straight):
        start, end = parent.y + sign * HEIGHT / 2, child.y - sign * HEIGHT / 2
        if straight: return [(x, start), (x, end)]
        lanes = sorted(turns[row, sign])  # each parent turns at a height of its own
        share = (lanes.index(parent.lane) + 1) / (len(lanes) + 1)
        level = TOP + ROW * row + sign * (HEIGHT / 2 + (ROW - HEIGHT) * share)
        return [(parent.x, start), (parent.x, level), (x, level), (x, end)]

    return [(parent, child, first, corners(parent, child, *rest), hits) for parent, child, first, *rest, hits in lines]


def cost(found, known):
    """How bad a drawing is: boxes that lines run through, then lines that cross, then how far lines run across."""
    lines, crossings = routes(found, known), 0
    across = [(p, c[1][1], *sorted((c[1][0], c[2][0]))) for p, _, _, c, _ in lines if len(c) == 4]
    down = [(p, a[0], *sorted((a[1], b[1]))) for p, _, _, c, _ in lines for a, b in zip(c[::2], c[1::2])]
    for p, y, left, right in across:
        crossings += sum(left < x < right and top < y < bottom for q, x, top, bottom in down if q is not p)
    return 1000 * sum(hits for *_, hits in lines) + crossings + sum(right - left for _, _, left, right in across) / (2 * LANE)


def path(corners, radius=7):
    """The SVG path along these corners, rounded."""
    (x, y), *rest = corners
    if len(rest) == 1 or corners[0][0] == corners[2][0]: return f"M{x:g} {y:g}V{rest[-1][1]:g}"
    (_, level), (x2, _), (_, y2) = rest
    side, sign, r = (1 if x2 > x else -1), (1 if y2 > y else -1), min(radius, abs(x2 - x) / 2)
    return (f"M{x:g} {y:g}V{level - sign * r:g}Q{x:g} {level:g} {x + side * r:g} {level:g}"
            f"H{x2 - side * r:g}Q{x2:g} {level:g} {x2:g} {level + sign * r:g}V{y2:g}")


def describe(found, known):
    """The tree in words, for those who do not see it."""
    said = [f"{n.entry.text} from {' and '.join(known[p].entry.text for p in n.parents)}" for n in found if n.parents]
    return f"Family tree of {len(found)} pages, by year from the top. {'; '.join(said)}."


def figure(section, card):
    """The tree as HTML without blank lines, whose boxes are links: Markdown hands it on as it is."""
    found = nodes(section, card)
    known = {n.entry.source: n for n in found}
    wide = max(n.x for n in found) + WIDTH / 2 + 4
    high = max(n.y for n in found) + HEIGHT / 2 + 4
    out = [STYLE, '<div class="family">',
           f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high:g}" viewBox="0 0 {wide:g} {high:g}"'
           ' role="group" aria-label="Family tree">',
           f'<g role="img" aria-label="{escape(describe(found, known))}">']
    for n in {n.year: n for n in reversed(found)}.values():
        y = min(m.y for m in found if m.year == n.year)
        out.append(f'<path class="grid" d="M40 {y:g}H{wide:g}"/><text class="year" x="18" y="{y + 4:g}">{n.year or ""}</text>')
    for group in dict.fromkeys(n.group for n in found):
        lanes = [n.x for n in found if n.group == group]
        out.append(f'<text class="group" x="{(min(lanes) + max(lanes)) / 2:g}" y="14">{escape(group)}</text>')
    out.append('<g class="lines">')
    for *_, first, corners, _ in routes(found, known):
        out.append(f'<path class="{"line" if first else "beside"}" d="{path(corners)}"/>')
    out.append("</g></g>")
    for n in sorted(found, key=lambda n: (n.row, n.lane)):  # the order in which the Tab key visits them
        to = Path(os.path.relpath(f"{n.entry.page}.html", Path(section.source).parent)).as_posix()
        about = escape(pages.title_cell(n.entry.source)[1])
        out.append(f'<a href="{to}" aria-label="{escape(n.entry.text)}, {n.year or "no year"}"><title>{about}</title>'
                   f'<rect x="{n.x - WIDTH / 2:g}" y="{n.y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
                   f'<text class="name" x="{n.x:g}" y="{n.y - 2:g}">{escape(n.entry.text)}</text>'
                   f'<text class="year" x="{n.x:g}" y="{n.y + 14:g}">{n.year or ""}</text></a>')
    return "\n".join([*out, "</svg>", "</div>"])
