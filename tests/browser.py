"""A headless Chromium for tests of the page: one a module, found on PATH, its camera a moving test picture.

Every page notes what its console and its content policy complain about; a test that leaves a complaint fails.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SECONDS = 20  # for whatever a test waits for


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; skips, and says so, where Playwright or Chromium is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the page's tests need playwright", exc_type=ImportError
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("the page's tests need chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page at an address, in a context of its own. `options` are Playwright's of a context."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(1000 * SECONDS)
    page = context.new_page()
    complaints: list[str] = []

    def note(message: Any) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => console.error('CSP', e.blockedURI))"
    )
    try:
        page.goto(address)
        yield page
        assert complaints == [], complaints
    finally:
        context.close()
