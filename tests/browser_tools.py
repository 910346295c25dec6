"""A folder as a site, and a browser to look at it; a test is skipped without one."""

import contextlib
import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *what):
        pass


@contextlib.contextmanager
def served(folder):
    """Inside, the folder is a site; yield its address."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def chromium():
    """Inside, Chromium runs, without a window; yield it as Playwright's browser."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync.sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip(
                "needs Chromium: apt-get install chromium, or playwright install"
            )
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
