"""The documentation, built as `make docs` builds it and driven in a real Chromium, from file:// and over HTTP."""
import functools
import html
import http.server
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_docs"
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()


def build(root):
    return subprocess.run([sys.executable, "docs/build.py"], cwd=root, capture_output=True, text=True)


@pytest.fixture(scope="module", autouse=True)
def built():
    run = build(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip().endswith(f"Open {SITE / 'index.html'}")


@pytest.fixture(scope="module")
def browser():
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    if not (path := next(filter(None, map(shutil.which, names)), None)):
        pytest.fail(f"The site's tests need a browser, one of {', '.join(names)}, on PATH: for example `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


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
    tab.on("requestfailed", lambda r: faults.append(f"{tab.url}: {r.url} failed"))
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


def test_search_finds_adam(tab, base):
    tab.goto(base + "index.html")
    tab.locator("button.search-button__button:visible").first.click()
    tab.locator("#pst-search-dialog input").fill("bias correction")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?*")
    tab.locator("#search-results ul.search li a").first.wait_for()
    found = [a.get_attribute("href") for a in tab.locator("#search-results ul.search li a").all()]
    assert any(re.match(r"(\./)?optimizers/adam\.html", href) for href in found), found


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


def test_every_page_offers_its_notebook():
    for page in sidebar():
        path = SITE / page
        file = (path.parent / soup(path).select_one("a.download")["href"]).resolve()
        nbformat.validate(nbformat.read(file, 4))
        assert file.read_bytes() == (ROOT / "nbs" / file.relative_to(SITE / "notebooks")).read_bytes()


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
