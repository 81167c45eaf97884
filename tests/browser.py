"""Pages in headless Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def opened(address: str, width: int = 1280) -> Iterator[tuple]:
    """A page, and what its console has to complain about.

    Args:
        address (str): Only what its own host serves is let through.
        width (int): Of the window. Defaults to 1280.

    Yields:
        tuple: The page, of playwright, and a list of errors that grows.
    """
    playwright = pytest.importorskip(
        'playwright.sync_api', reason='playwright is not installed; pip install playwright'
    )
    chromium = shutil.which('chromium') or shutil.which('google-chrome')
    if chromium is None:
        pytest.skip('there is no Chromium; apt-get install chromium')
    sandbox = ['--no-sandbox'] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=sandbox)
        page = browser.new_page(viewport=dict(width=width, height=900))
        errors = []
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('console', lambda said: said.type == 'error' and errors.append(said.text))
        page.on('request', lambda request: note_foreign(request.url, address, errors))
        page.goto(address)
        yield page, errors
        browser.close()


def note_foreign(url: str, address: str, errors: list[str]) -> None:
    """Count a request to anybody else as an error."""
    own = address.split('/')[:3]
    if not url.startswith(('data:', 'blob:')) and url.split('/')[:3] != own:
        errors.append(f'request to {url}')


def is_too_wide(page) -> bool:
    """Whether the page can be scrolled sideways."""
    return page.evaluate('document.documentElement.scrollWidth > innerWidth')
