"""Fixtures for tests of the page in a real browser."""

from __future__ import annotations

import pytest
from browsing import CHROMIUM, WIDE


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright; the test is skipped where either is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]' installs playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page; at the end, it must have logged no error and asked for nothing but itself."""
    contexts, faults = [], []

    def open_page(path, viewport=WIDE, theme="light", bypass_csp=False):
        context = browser.new_context(viewport=viewport, color_scheme=theme, bypass_csp=bypass_csp)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)  # A busy machine takes its time; what is wrong stays wrong.
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if _is_own(request.url, path) else faults.append(request.url))
        page.goto(path.as_uri())
        # Never `wait_for_function`: it evals in the page again and again, and the page's policy forbids that.
        for drawn in ("#curves .main-svg, #curves[hidden]", "#viewer .card, #samples[hidden]"):
            page.locator(drawn).first.wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _is_own(url, path):
    return url == path.as_uri() or url.startswith(("data:", "blob:"))
