"""A Chromium for tests: Debian's, driven over the DevTools protocol."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kit import eventually

SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
]


def chromium() -> str:
    """Where Chromium is. Skips the test in words where there is none, and fails it in CI, where there has to be one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        words = "no Chromium on this machine: install it (Debian: apt-get install --no-install-recommends chromium) to run the page's tests"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A running browser of playwright's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=SWITCHES)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def page(running: Any, **options: Any) -> Iterator[Any]:
    """A page in a profile of its own; fails the test on an error in the page's scripts."""
    context = running.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield opened
    finally:
        context.close()
    assert errors == []


def until(tab: Any, expression: str, within: float = 30.0) -> Any:
    """Wait until a JavaScript expression is true in the page. Playwright's own wait_for_function needs eval, which the page forbids."""
    return eventually(lambda: tab.evaluate(expression), within)
