"""The notebooks in JupyterLab, started as `make lab` starts it and driven in a real Chromium; and what Binder installs."""
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import browser as chromium
import nbformat
import pytest
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parent.parent
browser = chromium.browser

def cells(nb): return nbformat.read(ROOT / "nbs" / nb, 4).cells


def test_binder_installs_what_settings_ini_says():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "settings.ini")
    known = {r for key in ("requirements", "plot_requirements", "dev_requirements") for r in config["DEFAULT"][key].split()}
    asked = [r for r in (ROOT / ".binder/requirements.txt").read_text().splitlines() if not r.startswith("#")]
    assert set(asked) <= known and set(config["DEFAULT"]["requirements"].split()) <= set(asked)
    assert {"nbdev", "matplotlib", "jupyterlab", "scikit-learn", "sympy"} <= {re.match(r"[\w-]+", r)[0] for r in asked}
    assert all(os.access(ROOT / ".binder" / name, os.X_OK) for name in ("postBuild", "start"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, started as the Makefile says; its address and the copy's folder."""
    work = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs", work / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in "settings.ini", "_quarto.yml": shutil.copy(ROOT / name, work)
    command = re.search(r"^lab:.*\n\t@(\S+) \$\(BIN\)/jupyter (lab .*?) ?\$\(if", (ROOT / "Makefile").read_text(), re.M)
    variable, _, folder = command[1].partition("=")
    env = os.environ | {variable: folder.replace("$(CURDIR)", str(ROOT)), "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "0",
                        **{f"JUPYTER_{x}_DIR": str(work / x) for x in ("CONFIG", "DATA", "RUNTIME")}}
    log = (work / "log").open("w+")
    server = subprocess.Popen([sys.executable, "-m", "jupyter", *command[2].split(), "--no-browser", "--allow-root", "--port=0",
                               "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.news_url="], cwd=work, env=env,
                              stdout=log, stderr=log)
    try:
        for _ in range(240):
            files = list((work / "RUNTIME").glob("jpserver-*.json"))
            if files and (found := json.loads(files[0].read_text() or "{}")) and "is running at" in (work / "log").read_text(): break
            assert server.poll() is None, (work / "log").read_text()
            time.sleep(0.5)
        else: pytest.fail("JupyterLab did not start: " + (work / "log").read_text())
        yield found["url"], work / "nbs", command[2].split()[1].removeprefix("nbs/")
    finally:
        server.terminate()
        try: server.wait(120)
        except subprocess.TimeoutExpired: server.kill()
        log.close()


@pytest.fixture
def tab(browser, lab):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    yield tab
    context.close()


def open_page(tab, lab, nb):
    """Open a notebook and wait until its kernel answers, which is when JupyterLab writes the kernel's name into it."""
    tab.goto(f"{lab[0]}lab/tree/{nb}?reset")
    panel = tab.locator(".jp-NotebookPanel:visible")
    panel.locator(".jp-Notebook").wait_for()
    ready(tab)
    return panel


def ready(tab):
    tab.locator(".jp-NotebookPanel:visible .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    tab.wait_for_timeout(1500)


DIRTY = ".lm-DockPanel-tabBar .lm-TabBar-tab.jp-mod-dirty"


@pytest.mark.parametrize("nb", ["index.ipynb", "optimizers/02_adam.ipynb"])
def test_opening_a_page_does_not_change_it(tab, lab, nb):
    panel = open_page(tab, lab, nb)
    panel.locator(".jp-RenderedMarkdown h1").first.wait_for()
    assert tab.locator(DIRTY).count() == 0, "opening has marked the page as changed"
    before = (lab[1] / nb).read_bytes()
    with tab.expect_response(lambda r: r.request.method == "PUT" and nb in r.url) as saved: tab.keyboard.press("Control+s")
    assert saved.value.ok and (lab[1] / nb).read_bytes() == before, "saving has changed the file"


def test_home_is_what_make_lab_opens_and_its_links_lead_on(tab, lab):
    assert lab[2] == "index.ipynb"
    panel = open_page(tab, lab, "index.ipynb")
    panel.get_by_role("link", name="Read a page").click()
    expect(tab.locator(".lm-DockPanel-tabBar .lm-mod-current")).to_contain_text("02_adam.ipynb")
    tab.locator(".jp-NotebookPanel:visible .jp-RenderedMarkdown h1", has_text="Adam").wait_for()


@pytest.mark.parametrize("nb", ["explanations/notation.ipynb"])
def test_every_cell_of_a_light_page_runs_in_the_browser(tab, lab, nb):
    open_page(tab, lab, nb)
    for menu, entry in ("Edit", "Clear Outputs of All Cells"), ("Run", "Run All Cells"):
        tab.get_by_role("menuitem", name=menu, exact=True).click()
        tab.get_by_role("menuitem", name=entry, exact=True).click()
    deadline, resting = time.monotonic() + 400, 0
    while resting < 6:  # between two cells a kernel is idle for a moment
        assert time.monotonic() < deadline, "the page has not come to an end"
        tab.wait_for_timeout(500)
        kernels = tab.request.get(f"{lab[0]}api/sessions").json()
        state = next(s["kernel"]["execution_state"] for s in kernels if s["path"] == nb)
        resting = resting + 1 if state == "idle" else 0
    with tab.expect_response(lambda r: r.request.method == "PUT" and nb in r.url): tab.keyboard.press("Control+s")
    for was, now in zip(cells(nb), nbformat.read(lab[1] / nb, 4).cells, strict=True):
        kinds = [[o.output_type for o in c.get("outputs", [])] for c in (was, now)]
        assert "error" not in kinds[1] and bool(kinds[0]) == bool(kinds[1]), now.source
