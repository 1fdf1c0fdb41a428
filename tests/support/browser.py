"""A real browser for the tests: Debian's chromium, or the one that is named, driven by playwright.

`METER_SYNC_TEST_BROWSER` names an executable of Chromium. Where there is none, what needs one is skipped, and says so;
where `METER_SYNC_TEST_BROWSER=needed`, it fails.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

VARIABLE = "METER_SYNC_TEST_BROWSER"
NEEDED = "needed"

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # root, as in a container, may not have one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A page of our own is shown, and nobody is to be asked anything."""


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Start a browser for as long as the block lasts. Skip the test that needs one where there is none."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=_FLAGS)
        yield browser
        browser.close()


def _executable() -> str:
    named = os.environ.get(VARIABLE, "")
    if named and named != NEEDED:
        return named
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        said = f"no browser: install Debian's chromium, or name an executable by {VARIABLE}"
        if named == NEEDED:
            pytest.fail(said)
        pytest.skip(said)
    return found
