"""The documentation, built as `make docs` builds it and driven in a real Chromium, from file:// and over HTTP."""
import functools
import html
import http.server
import importlib
import inspect
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import browser as chromium
import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.util.inventory import InventoryFile

import optim_nb

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "docs"))
import pages

SITE = ROOT / "_docs"
browser = chromium.browser


def build(root):
    return subprocess.run([sys.executable, "docs/build.py"], cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module", autouse=True)
def built():
    run = build(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip().endswith(f"Open {SITE / 'index.html'}")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="module", params=["file", "http"])
def base(request):
    """The address of the site's folder."""
    if request.param == "file":
        yield f"{SITE.as_uri()}/"
        return
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def tab(browser, base):
    """A fresh tab; whatever it reports as an error, or asks of another machine, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    tab, faults = context.new_page(), []
    tab.on("pageerror", lambda error: faults.append(f"{tab.url}: {error}"))
    tab.on("console", lambda m: faults.append(f"{tab.url}: {m.text} {m.location['url']}") if m.type in ("error", "warning") else None)
    tab.on("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED" else  # cut short by leaving the page
           faults.append(f"{tab.url}: {r.url} failed, {r.failure}"))
    tab.on("response", lambda r: None if r.status < 400 else faults.append(f"{tab.url}: {r.url} gives {r.status}"))
    tab.on("request", lambda r: None if r.url.startswith((base, "data:", "blob:")) else faults.append(f"{tab.url} asks for {r.url}"))
    yield tab
    context.close()
    assert not faults, faults


@functools.cache
def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def html_files():
    return sorted(p for p in SITE.rglob("*.html") if "_static" not in p.parts)


def sidebar():
    """The pages of the sidebar, in its order."""
    return [a["href"] if a["href"] != "#" else "index.html" for a in soup(SITE / "index.html").select(".site-nav")[0].select("a")]


LOOK = r"""async () => {
    await MathJax.startup.promise
    const all = s => [...document.querySelectorAll(s)], words = [], seen = document.createTreeWalker(document.body, 4)
    while (seen.nextNode()) {
        const at = seen.currentNode.parentElement
        if (!at.closest('pre, code, script, style, noscript, mjx-container')) words.push(seen.currentNode.data)
    }
    const images = all('article img')
    images.forEach(i => i.loading = 'eager')
    await Promise.all(images.map(i => i.decode().catch(() => 0)))
    const play = all('.animation button[title="Next frame"]'), frame = () => all('.animation img').map(i => i.src).join()
    const still = frame()
    play.forEach(b => b.click())
    return {
        raw: words.join(' ').match(/\S*(\$\$|\\\(|\\\[|:::|\\tag|\\begin)\S*/g) || [],
        broken: images.filter(i => !i.naturalWidth).map(i => i.src),
        boxed: images.filter(i => getComputedStyle(i).backgroundColor != 'rgba(0, 0, 0, 0)').length,
        sources: all('article .math').length, typeset: all('article .math mjx-container').length,
        errors: all('[data-mjx-error], mjx-container [fill=red]').map(e => e.dataset.mjxError || 'unknown macro'),
        code: all('div.highlight pre').length, copy: all('div.highlight button.copybtn').length,
        previous: all('.left-prev').length, next: all('.right-next').length, toc: all('#pst-page-toc-nav a').length,
        headings: all('article h2').length, frozen: play.length && frame() == still, dark: document.documentElement.dataset.theme,
    }
}"""


def test_every_page_of_the_sidebar(tab, base):
    pages, problems = sidebar(), []
    assert len(pages) == len(set(pages)) > 5
    tab.emulate_media(color_scheme="dark" if base.startswith("http") else "light")  # the theme follows the system
    for i, page in enumerate(pages):
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(base + page)
        look = tab.evaluate(LOOK)
        expected = {
            "raw": [], "broken": [], "boxed": 0, "typeset": look["sources"], "errors": [], "copy": look["code"],
            "previous": int(i > 0), "next": int(i < len(pages) - 1), "frozen": 0,
            "dark": "dark" if base.startswith("http") else "light",
        }
        problems += [f"{page}: {key} is {look[key]}, not {value}" for key, value in expected.items() if look[key] != value]
        if look["toc"] < look["headings"]: problems.append(f"{page}: the table of contents lacks headings")
        tab.set_viewport_size({"width": 390, "height": 844})
        excess = tab.evaluate("Math.max(...[document.documentElement, document.querySelector('.bd-article-container')]"
                              ".map(e => e.scrollWidth - e.clientWidth))")
        if excess > 0: problems.append(f"{page}: {excess} px too wide for a screen of 390 px")
    assert not problems, "\n".join(problems)


WIDE = """limit => [...document.querySelectorAll('article details')].map(e => e.open = true) &&
    [...document.querySelectorAll('article pre')].filter(e => e.scrollWidth > e.clientWidth)
    .map(e => e.textContent).filter(text => Math.max(...text.split('\\n').map(line => line.length)) <= limit)"""


def test_code_of_92_columns_fits(tab, base):
    if base.startswith("http"): pytest.skip("looks the same")
    problems = []
    for width in 1400, 1000:
        tab.set_viewport_size({"width": width, "height": 900})
        for page in sidebar():
            tab.goto(base + page)
            problems += [f"{page} at {width} px cuts off:\n{text}" for text in tab.evaluate(WIDE, 92)]
            if width == 1400 and (column := tab.evaluate("document.querySelector('article').clientWidth")) < 860:
                problems.append(f"{page}: the column is {column} px wide")
    assert not problems, "\n\n".join(problems)
    sizes = "[...document.querySelectorAll('article p, .cell_input pre')].map(e => [e.tagName, getComputedStyle(e).fontSize])"
    tab.set_viewport_size({"width": 1400, "height": 900})
    tab.goto(base + "optimizers/adam.html")
    assert {("P", "18px"), ("PRE", "14px")} <= {tuple(x) for x in tab.evaluate(sizes)}


def test_wide_tables_and_formulas_scroll_and_show_it(tab, base):
    if base.startswith("http"): pytest.skip("looks the same")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(base + "optimizers/index.html")
    boxes = tab.locator(".pst-scrollable-table-container")
    shown = boxes.evaluate_all("""es => es.filter(e => e.scrollWidth > e.clientWidth).map(e => {
        const style = getComputedStyle(e)
        return style.overflowX == 'auto' && /local/.test(style.backgroundAttachment) && /gradient/.test(style.backgroundImage)})""")
    assert shown and all(shown)


@pytest.mark.parametrize("query, page", [
    ("bias correction", "optimizers/adam.html"), ("adam", "optimizers/adam.html"), ("zero_grad", "api.html#optim_nb.Optimizer.zero_grad"),
    ("Adam signature", "api.html#optim_nb.Adam"), ("StepLR signature", "api.html#optim_nb.lr_scheduler.StepLR"),
])
def test_search(tab, base, query, page):
    tab.goto(base + "index.html")
    tab.locator("button.search-button__button:visible").first.click()
    tab.locator("#pst-search-dialog input").fill(query)
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?*")
    results = tab.locator("#search-results ul.search li a")
    results.first.wait_for()
    found = [a.get_attribute("href").removeprefix("./") for a in results.all()]
    if "signature" in query or query == "zero_grad":
        assert found[0] == page, found
        results.first.click()
        tab.wait_for_url("**/" + page)
        assert tab.evaluate("document.querySelector(':target') != null"), "there is such an entry"
    else: assert page in [f.partition("#")[0] for f in found[:5]], found


def test_sidebar_folds_and_unfolds(tab, base):
    tab.set_viewport_size({"width": 1400, "height": 900})
    tab.goto(base + "optimizers/adam.html")
    nav = tab.locator(".bd-sidebar-primary .site-nav")
    assert nav.locator("a[aria-current=page]").inner_text() == "Adam"
    assert nav.get_by_role("link", name="AdamW").is_visible() and not nav.get_by_role("link", name="StepLR").is_visible()
    section = nav.locator("li", has=tab.get_by_role("link", name="Schedulers", exact=True)).locator("summary").first
    section.click(position={"x": 5, "y": 10})
    assert nav.get_by_role("link", name="Schedulers", exact=True).nth(1).is_visible(), "its pages, as the arrow was clicked"
    section.get_by_role("link").click()
    tab.wait_for_url("**/lr_scheduler/index.html")
    assert tab.locator(".navbar-nav .active").first.inner_text() == "Schedulers"


def test_index_pages_list_every_page_with_what_its_card_says():
    for e in (e for e in generated() if e.page != "api"):
        listed = [x for x in e.walk() if x.page and x is not e]
        path = SITE / f"{e.page}.html"
        text = "\n".join(row.get_text(" ", strip=True) for row in soup(path).select("article table tbody tr"))
        links = [(path.parent / a["href"]).resolve() for a in soup(path).select("article table tbody tr > td:first-child a")]
        assert links == [SITE / f"{x.page}.html" for x in listed]
        for x in listed:
            assert pages.title_cell(x.source)[1].split()[0] in text, f"{e.page} lacks the description of {x.source}"
    row = next(r for r in soup(SITE / "optimizers/index.html").select("tbody tr") if r.select_one("a").text == "Adam")
    assert [cell.get_text(strip=True) for cell in row.select("td")][1:5] == ["2015", "8", "28", "g × D"]
    drawn = [(SITE / "optimizers" / a["href"]).resolve() for a in soup(SITE / "optimizers/index.html").select(".family svg > a")]
    optimizers = next(e for e in generated() if e.page == "optimizers/index")
    assert sorted(drawn) == sorted(SITE / f"{e.page}.html" for e in optimizers.walk() if e.page and e is not optimizers)


@functools.cache
def public_names():
    """Every public class, function, method and property: its name in the package and the object."""
    names = {}
    for path in (ROOT / "optim_nb").rglob("*.py"):
        if path.name.startswith("_"): continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in module.__all__:
            if name.startswith("_"): continue
            names[f"{module.__name__}.{name}"] = obj = getattr(module, name)
            if inspect.isclass(obj): names |= {f"{module.__name__}.{name}.{k}": v for k, v in vars(obj).items()
                                               if k[0] != "_" and (inspect.isroutine(v) or isinstance(v, property)) and v.__doc__}
    return names


def test_every_public_name_is_in_the_api_reference_and_in_the_inventory():
    with open(SITE / "objects.inv", "rb") as file:
        inventory = InventoryFile.loads(file.read(), uri="")
    known = {item.name: item for kind in ("class", "function", "data", "method", "property", "module")
             for item in map(lambda x: type("Item", (), {"name": x[0], "uri": x[1].uri}), inventory.data.get(f"py:{kind}", {}).items())}
    assert not (missing := public_names().keys() - known.keys()), missing
    for name in "optim_nb.Adam", "optim_nb.Optimizer.step", "optim_nb.lr_scheduler.StepLR", "optim_nb.optimizers.adam.Adam": assert name in known
    page = soup(SITE / "api.html")
    for name in public_names():
        anchor = known[name].uri.partition("#")[2].replace("$", name)
        entry = page.find(id=anchor)
        assert entry is not None and entry.find_next("p", "api-links").find("a"), f"{name} has no entry at #{anchor}"
    adam = page.find(id="optim_nb.Adam")
    assert "betas=(0.9, 0.999)" in adam.get_text().replace(" ", "").replace(",0", ", 0")
    body = adam.find_next_sibling("dd")
    rows = {row.td.get_text(): row.find_all("td")[-1].get_text() for row in body.select("tbody tr")}
    assert list(rows) == list(inspect.signature(optim_nb.Adam).parameters) and all(rows.values())
    assert "Invalid betas" in body.get_text() and "ValueError" in body.get_text()
    assert [a["href"] for a in body.select_one("p.api-links").select("a")][0] == "optimizers/adam.html#adam"


def test_cards_link_to_signatures():
    for page, name in ("optimizers/adam", "Adam"), ("lr_scheduler/step", "StepLR"):
        assert soup(SITE / f"{page}.html").select("article table")[0].find("a", href=re.compile(rf"api\.html#.*\.{name}$"))


def test_dark_mode_and_copy_buttons(tab, base):
    tab.goto(base + "optimizers/adam.html")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(colour)
    tab.locator("button.theme-switch-button:visible").click()
    tab.locator("button.theme-change-button[data-mode=dark]:visible").click()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.evaluate(colour) != light
    tab.goto(base + "index.html")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark", "the choice is kept"
    tab.goto(base + "optimizers/adam.html")
    block = tab.locator("div.highlight:has(button.copybtn)").first
    block.hover()
    block.locator("button.copybtn").click()
    block.locator("button.copybtn.success").wait_for()


@functools.cache
def ids(path): return set(re.findall(r'\sid="([^"]+)"', path.read_text(encoding="utf-8")))


def test_links_and_anchors():
    broken, targets = [], r'<(a|link|img|script)\b[^>]*?\s(?:href|src)="([^"]*)"'
    for path in html_files():
        for tag, target in set(re.findall(targets, path.read_text(encoding="utf-8"))):
            url, anchor = urldefrag(urljoin(path.as_uri(), html.unescape(target)))
            file = Path(unquote(url.removeprefix("file://").partition("?")[0]))
            if not url.startswith("file:"): good = tag == "a" or url.startswith("data:")
            else: good = file.is_file() and (not anchor or file.suffix != ".html" or unquote(anchor) in ids(file))
            if not good: broken.append(f"{path}: {tag} to {target[:100]}")
    assert not broken, "\n".join(broken)


def test_source_links_lead_to_the_line_of_the_definition():
    links = [(path, a) for path in html_files() for a in soup(path).select("a.source")]
    assert links
    for path, link in links:
        file, _, anchor = link["href"].partition("#")
        name = link.find_previous(["h2", "h3", "h4"]).find("code").text.split(".")[-1]
        assert re.search(rf"\b{name}\b", soup((path.parent / file).resolve()).find(id=anchor).text), (path, link["href"])


def generated(): return [e for top in pages.site_map()[0] for e in top.walk() if (e.source or "").endswith(".qmd")]


def test_copies_for_colab_install_the_package_and_link_to_each_other(tmp_path):
    subprocess.run([sys.executable, "docs/colab.py", tmp_path], cwd=ROOT, check=True)
    for file in tmp_path.rglob("*.ipynb"):
        nb = file.relative_to(tmp_path)
        copy, book = nbformat.read(file, 4), nbformat.read(ROOT / "nbs" / nb, 4)
        nbformat.validate(copy)
        install = copy.cells.pop(1)
        assert install.source.startswith('%pip install -q "optim_nb[plot] @ git+https://github.com/optim-nb/optim_nb@main"')
        assert [c.source for c in copy.cells if c.cell_type == "code"] == [c.source for c in book.cells if c.cell_type == "code"]
        text = "\n".join(c.source for c in copy.cells if c.cell_type == "markdown")
        assert not re.findall(r"\]\((?!https?:|#|mailto:)[^)]*\)", re.sub(r"`[^`]*`|\$[^$]*\$", "", text)), nb
        for target in re.findall(r"blob/colab/([\w/]+\.ipynb)", text): assert (tmp_path / target).exists()


def test_every_page_offers_its_notebook():
    for page in sidebar():
        path = SITE / page
        if not (links := soup(path).select(".notebook-links a")):
            assert page in [f"{e.page}.html" for e in generated()], f"{page} offers no notebook"
            continue
        file = (path.parent / links[0]["href"]).resolve()
        nb = file.relative_to(SITE / "notebooks").as_posix()
        assert [a["href"] for a in links[1:]] == [
            f"https://colab.research.google.com/github/optim-nb/optim_nb/blob/colab/{nb}",
            f"https://mybinder.org/v2/gh/optim-nb/optim_nb/main?urlpath=lab/tree/nbs/{nb}"]
        nbformat.validate(nbformat.read(file, 4))
        assert file.read_bytes() == (ROOT / "nbs" / nb).read_bytes()


def test_a_page_that_is_listed_but_missing_is_named(tmp_path):
    for name in "docs", "optim_nb": shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "nbs").mkdir()
    for name in "settings.ini", "_quarto.yml": shutil.copy(ROOT / name, tmp_path)
    run = build(tmp_path)
    assert run.returncode and "there is no notebook nbs/index.ipynb" in run.stderr


def test_the_readme_is_the_home_page():
    text, images = runpy.run_path(str(ROOT / "docs/readme.py"))["render"]()
    assert text == (ROOT / "README.md").read_text(encoding="utf-8"), "python docs/readme.py writes it"
    assert all((ROOT / name).read_bytes() == data for name, data in images.items())


NO_WORDS = re.compile(r"|[0-9a-f]{16,}.*|(?:_images/)?.*\.(?:png|svg|jpe?g)|(?:a |the )?(?:figure|image|img|picture|plot|png)s?\W*\d*", re.I)


@pytest.mark.parametrize("nb", [nb.as_posix() for nb in pages.notebooks()])
def test_every_picture_says_in_words_what_is_seen(nb):
    """That the cells of a notebook have these words is for tests/test_pages.py, with its list of pages to do."""
    drawing = [c.source for c in nbformat.read(ROOT / "nbs" / nb, 4).cells
               if any("image/png" in o.get("data", {}) for o in c.get("outputs", []))]
    page = soup(SITE / f"{pages.page(nb)}.html")
    bare = [i.get("src", "")[:60] for i in page.select("article img:not([hidden])") if NO_WORDS.fullmatch((i.get("alt") or "").strip())]
    if not all("#| fig-alt:" in source for source in drawing): pytest.xfail("the notebook lacks words for a picture")
    assert not bare, bare


def test_home_answers_within_ten_seconds():
    """What it is, a picture, three doors, install, six lines and one ratio, in this order; the ratio is the table's."""
    article = soup(SITE / "index.html").select_one("article")
    def find(tag, start): return article.find(lambda x: x.name == tag and x.get_text().startswith(start))
    order = [article.select_one(".subtitle"), article.find("img"), find("a", "Write your own"), find("h2", "Install"),
             find("h2", "Six lines"), find("strong", "How fast")]
    everything = list(article.descendants)
    at = [next(i for i, x in enumerate(everything) if x is wanted) for wanted in order]
    assert at == sorted(at)
    assert len(article.select(".subtitle")[0].get_text().split()) < 30
    ratio = re.search(r"([\d.]+) times as long", order[-1].parent.get_text())[1]
    row = next(r for r in article.select("tbody tr") if r.td.get_text().startswith("1000 arrays of 1000"))
    assert ratio in [td.get_text() for td in row.select("td")], "the ratio at the top is one of the table below"
    code = order[4].find_parent("section").select(".cell_input pre")[1].get_text()
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("print")]) == 6
