"""A real browser for the tests of the site and of the notebooks in JupyterLab."""
import shutil

import pytest
from playwright.sync_api import sync_playwright

FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()


@pytest.fixture(scope="module")
def browser():
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    if not (path := next(filter(None, map(shutil.which, names)), None)):
        pytest.fail(f"These tests need a browser, one of {', '.join(names)}, on PATH: for example `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
