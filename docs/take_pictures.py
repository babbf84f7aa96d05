"""Takes the pictures of the README from the real pages (Chromium and playwright): `python docs/take_pictures.py`."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
PORT = 8655
ADDRESS = f"http://127.0.0.1:{PORT}"
WAIT_MS = 180_000
SETTLE_MS = 2_500


def main() -> None:
    """Serve the examples, walk through the pages, and write one picture each."""
    FOLDER.mkdir(exist_ok=True)
    program = [sys.executable, "-m", "planner.cli", "ui", str(ROOT / "examples"), "--port", str(PORT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            _wait()
            with sync_playwright() as playwright:
                found = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
                _walk(browser)
                browser.close()
        finally:
            os.killpg(server.pid, 15)


def _wait() -> None:
    while True:
        try:
            with urllib.request.urlopen(f"{ADDRESS}/_stcore/health", timeout=1.0):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)


def _walk(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(WAIT_MS)
    page.goto(ADDRESS)
    page.get_by_test_id("stBaseButton-primary").filter(has_text="Plan").click()
    page.get_by_text("Where everything runs").wait_for()
    page.get_by_text("The scenario: what must be served").click()
    _shoot(page, "plan")
    page.get_by_role("link", name="What if").click()
    page.get_by_role("button", name="Plan 7 variants").click()
    page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    _shoot(page, "what_if")
    page.get_by_role("link", name="Simulate").click()
    page.get_by_test_id("stBaseButton-primary").filter(has_text="Simulate").click()
    page.get_by_test_id("stVegaLiteChart").nth(4).wait_for()
    _shoot(page, "simulate")


def _shoot(page: Any, name: str) -> None:
    """The whole page: Streamlit scrolls inside, so the window is made as high as what it holds."""
    page.wait_for_timeout(SETTLE_MS)
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=FOLDER / f"{name}.png")
    page.set_viewport_size({"width": 1280, "height": 900})


if __name__ == "__main__":
    main()
