"""The optimizers' index page: the family tree out of the cards, and the measured columns of the table."""
import re
import sys
from itertools import combinations

import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

import optim_nb
from optim_nb import optimizers

sys.path.append(str(ROOT / "docs"))
import family
import measures
import pages
import sections


@pytest.fixture(scope="module")
def section():
    return next(e for e in pages.site_map()[0] if e.source == "optimizers/index.qmd")


@pytest.fixture(scope="module")
def tree(section):
    found = family.nodes(section, sections.card)
    return found, {n.entry.source: n for n in found}


# ---- the tree

def test_every_page_is_a_node_with_a_year(section, tree):
    found, _ = tree
    assert [n.entry.source for n in found] == [e.source for e in section.walk() if e.page and e is not section]
    assert {n.entry.text for n in found} == set(optimizers.__all__)
    assert not [n.entry.text for n in found if n.year is None], "a card without a year"


def test_no_boxes_overlap(tree):
    found, _ = tree
    for a, b in combinations(found, 2):
        assert abs(a.x - b.x) >= family.WIDTH + 8 or abs(a.y - b.y) >= family.HEIGHT + 8, (a.entry.text, b.entry.text)


def test_time_runs_down_and_groups_keep_their_lanes(tree):
    found, _ = tree
    for a, b in combinations(found, 2):
        assert a.year == b.year or (a.y < b.y) == (a.year < b.year)
        assert a.group == b.group or a.lane != b.lane


def test_lines_lead_from_parents_to_children_past_all_other_boxes(tree):
    found, known = tree
    lines = family.routes(found, known)
    assert len(lines) == sum(len(n.parents) for n in found) >= 15
    for parent, child, _, corners, hits in lines:
        assert parent.year <= child.year and parent.y < child.y, f"{parent.entry.text} is not older than {child.entry.text}"
        assert corners[0] == (parent.x, parent.y + family.HEIGHT / 2) or parent.lane == child.lane
        assert corners[-1][1] == child.y - family.HEIGHT / 2 and abs(corners[-1][0] - child.x) < family.WIDTH / 2
        assert hits == 0, f"the line from {parent.entry.text} to {child.entry.text} runs through a box"
        for (x1, y1), (x2, y2) in zip(corners, corners[1:]):  # seen, not counted: no corner or edge inside a box
            for n in found:
                apart = (max(x1, x2) <= n.x - family.WIDTH / 2 or min(x1, x2) >= n.x + family.WIDTH / 2
                         or max(y1, y2) <= n.y - family.HEIGHT / 2 or min(y1, y2) >= n.y + family.HEIGHT / 2)
                assert apart, f"{parent.entry.text} to {child.entry.text} runs through {n.entry.text}"


def test_parents_are_those_that_the_cards_name(tree):
    known = {n.entry.text: [p.split("_", 1)[1] for p in n.parents] for n in tree[0]}
    assert known["AdamW"] == ["adam.ipynb", "sgd.ipynb"] and known["SGD"] == []
    assert family.parents("a/x.ipynb", dict(Parents="[A](y.ipynb) and [A](y.ipynb), [B](../b/z.ipynb#here), [C](https://c.org/d.ipynb)")
                          ) == ["a/y.ipynb", "b/z.ipynb"]


def test_the_figure_is_links_that_a_keyboard_reaches(section, tree):
    html = family.figure(section, sections.card)
    assert "\n\n" not in html, "a blank line would end the block of HTML"
    soup = BeautifulSoup(html, "html.parser")
    assert soup.select(".family svg > a") == soup.select("a"), "no link inside role=img, which hides what it holds"
    found = {(a["href"], a["aria-label"]) for a in soup.select("a")}
    assert found == {(f"{n.entry.page.split('/')[1]}.html", f"{n.entry.text}, {n.year}") for n in tree[0]}
    assert all(a.find("title").text and a.select_one(".name") and a.select_one(".year") for a in soup.select("a"))
    assert "AdamW from Adam and SGD" in soup.select_one("[role=img]")["aria-label"]
    width = float(soup.svg["width"])
    for n in tree[0]: assert family.WIDTH / 2 < n.x < width - family.WIDTH / 2
    assert set(re.findall(r"(?:fill|stroke): ([^;]+);", html)) == {"currentColor", "none",
                                                                  "var(--pst-color-background, var(--bs-body-bg, Canvas))"}


# ---- the measured columns

UNCHANGED = dict(  # what leaves the path as it was
    SGD={"rotation", "sides"}, ASGD={"rotation", "sides"},  # the gradient turns as θ does
    **dict.fromkeys(["Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "SparseAdam"],
                    {"loss", "terms"}),  # g over a mean of |g|; Adadelta's √ε is a length, so units are not among them
    Rprop={"loss", "terms"},  # the sign alone
    RAdam=set(),  # its first five steps are SGD's: not the loss. The others are Adam's: not a rotation
    Adafactor={"loss", "unit"},  # steps are relative to θ; a guess of rank one does not follow a factor for each element
    Muon={"loss", "sides"},  # the polar factor of QGR is Q·polar(G)·R; not of other rotations of all 24 elements
    LBFGS={"loss"},  # its first step is scaled by Σ|g|, which neither a rotation nor another unit leaves alone
)


@pytest.mark.parametrize("name", optimizers.__all__)
def test_invariances(name):
    cls = getattr(optimizers, name)
    assert measures.unchanged(cls) == UNCHANGED[name]
    for change, error in measures.errors(cls).items(): assert error < 1e-12 or error > 1e-3, f"{change}: {error} is neither"


def test_why_LBFGS_is_not_invariant_to_rotations():
    """Where Σ|g| is below 1 the first step is not scaled, and then the path turns with the problem."""
    H, changed, T = measures.problems()["rotation"]
    start = np.random.default_rng(1).normal(size=24)
    for scale, same in (1, False), (1e-3, True):
        path, other = (measures.run(optim_nb.LBFGS, lambda x, M=M: scale * (M @ x), s, **measures.options(optim_nb.LBFGS))[0]
                       for M, s in ((H, start), (changed, T @ start)))
        assert np.allclose(other, path @ T.T, rtol=0, atol=1e-6) == same


def test_Newtons_method_would_be_invariant_to_coordinates():
    """So the change is made rightly, and no optimizer here passes it."""
    H, changed, T = measures.problems()["coordinates"]
    class Newton:
        sparse = None
        def __init__(self, params, H): (self.p,), self.H = params, H
        def step(self, closure):
            closure()
            self.p.data -= 0.3 * np.linalg.solve(self.H, self.p.grad.ravel()).reshape(self.p.data.shape)
    start = np.random.default_rng(1).normal(size=24)
    path, other = (measures.run(Newton, lambda x, M=M: M @ x, s, H=M)[0] for M, s in ((H, start), (changed, T @ start)))
    np.testing.assert_allclose(other, path @ T.T, rtol=1e-10, atol=1e-12)


def test_a_change_that_is_no_change_would_be_seen_through():
    """Every map and matrix differs from what it changes, and far from rounding."""
    for name, (H, changed, T) in measures.problems().items():
        assert np.abs(changed - H).max() > 0.1, name
        assert np.allclose(T, np.eye(24)) == (name in ("loss", "terms")), name


def test_bytes_of_state():
    known = dict(SGD="0", ASGD="4", Rprop="8", Adagrad="4", RMSprop="4", Adam="8", Muon="4", LBFGS="8 + 8m", Adafactor="0.125")
    for name, size in known.items(): assert measures.state(getattr(optimizers, name)) == size, name
    assert measures.size(optim_nb.Adam, amsgrad=True) == 12
    assert measures.size(optim_nb.SGD, momentum=0.9) == 4


def test_the_table_has_a_row_for_every_page_and_whole_cells(section):
    lines = sections.compared(section, "optimizers").splitlines()
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines]
    assert len(lines) == 2 + len(optimizers.__all__) and {len(row) for row in cells} == {7}
    for line in lines: assert line.count("|") == 8, f"a bar inside a cell: {line}"
    for row in cells[2:]: assert all(row), f"an empty cell: {row}"
    assert sections.traffic("28 bytes per *touched* float32 element") == "28 *touched*"
    assert sections.traffic("reads g, p and writes p: 12 bytes per float32 parameter; with momentum 20") == "12"


def test_the_words_mention_every_page_and_all_are_placed(section):
    text = sections.markdown(section)
    words = (sections.WORDS / "optimizers/index.md").read_text(encoding="utf-8")
    for e in section.walk():
        if e.page and e is not section: assert f"[{e.text}]({e.source.split('/')[1]})" in words, e.text
    assert "{tree}" not in text and "{table}" not in text and text.count('<div class="family">') == 1
