"""Takes pictures of the real pages in Chromium (needs playwright).

`python docs/take_pictures.py` takes those of the README; with `--all FOLDER` every page, at two widths, light and dark.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
README_PICTURES = ("plan", "gpu-map", "what-if")
PORT = 8655
ADDRESS = f"http://127.0.0.1:{PORT}"
WAIT_MS = 900_000
SETTLE_MS = 2_000
HEIGHT = 900
COLOURS = 128
NARROW_PX, WIDE_PX = 1280, 1920
NO_PLAN = '?set={"constraints":[{"kind":"max_gpus","count":1}]}'

SPEC = "new URLSearchParams(location.search).get('spec')"

GPU_MAP = "[data-testid=stVegaLiteChart] >> nth=0"

Shoot = Callable[..., None]
"""Called with the name of a picture, and the selector of a part where not the whole page is wanted."""


def main() -> None:
    """Serve the examples, walk through the pages, and write a picture of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", metavar="FOLDER", type=Path, help="every page, two widths, light and dark")
    parser.add_argument("--workspace", metavar="FOLDER", type=Path, default=ROOT / "examples", help="default: examples")
    folder, workspace = parser.parse_args().all, parser.parse_args().workspace
    with _served(workspace), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if folder is None:
            _walk(browser, ROOT / "docs" / "pictures", (NARROW_PX, "light"), README_PICTURES)
        else:
            for look in ((width, scheme) for width in (NARROW_PX, WIDE_PX) for scheme in ("light", "dark")):
                _walk(browser, folder / f"{look[0]}-{look[1]}", look, None)
        browser.close()


@contextmanager
def _served(workspace: Path) -> Iterator[None]:
    program = [sys.executable, "-m", "planner.cli", "ui", str(workspace), "--port", str(PORT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            while not _answers():
                time.sleep(0.3)
            yield
        finally:
            os.killpg(server.pid, 15)


def _answers() -> bool:
    try:
        with urllib.request.urlopen(f"{ADDRESS}/_stcore/health", timeout=1.0):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _walk(browser: Any, folder: Path, look: tuple[int, str], wanted: tuple[str, ...] | None) -> None:
    """Go through the pages in a fresh session; pictures that are not wanted are not taken."""
    folder.mkdir(parents=True, exist_ok=True)
    width, scheme = look
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)

    def shoot(name: str, part: str | None = None) -> None:
        if wanted is None or name in wanted:
            _picture(page, folder / f"{name}.png", width, part)

    page.goto(ADDRESS)
    _plan(page, shoot)
    _what_if(page)
    if wanted is None and look == (NARROW_PX, "light"):
        _studies(page)
    shoot("what-if")
    if wanted is None:
        _go(page, "Compare")
        page.get_by_text("What changes").wait_for()
        shoot("compare")
        _simulate(page, shoot)
        _profiles(page, shoot)
        _export(page, shoot)
        page.goto(f"{ADDRESS}/{NO_PLAN}&spec={page.evaluate(SPEC)}")
        _press(page, "Plan")
        page.get_by_text("There is no plan.").wait_for()
        shoot("no-plan")
    context.close()


def _go(page: Any, name: str) -> None:
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


def _press(page: Any, name: str) -> None:
    page.get_by_test_id("stBaseButton-primary").filter(has_text=name).click()


def _plan(page: Any, shoot: Shoot) -> None:
    page.get_by_text("Workloads: what must be served").wait_for()
    shoot("scenario")
    _press(page, "Plan")
    page.get_by_text("Where everything runs").wait_for()
    page.get_by_text("The scenario: what must be served").click()
    shoot("plan")
    shoot("gpu-map", GPU_MAP)
    page.get_by_role("button", name="Keep to compare").click()
    page.get_by_text("Kept as").first.wait_for()


def _what_if(page: Any) -> None:
    _go(page, "What if")
    handle = page.get_by_test_id("stSlider").filter(has_text="All traffic ×").get_by_role("slider")
    handle.focus()
    for _ in range(2):
        handle.press("ArrowRight")
    page.get_by_text("against the scenario as it stands").wait_for()
    page.get_by_role("button", name="Keep to compare").click()
    page.get_by_text(re.compile("Kept as .* traffic")).wait_for()


def _studies(page: Any) -> None:
    """Variants are planned one after another: this takes minutes."""
    for study in ("tornado", "pareto"):
        page.locator(f".st-key-{study}-go button").click()
        page.locator(f".st-key-{study}-csv").wait_for()


def _simulate(page: Any, shoot: Shoot) -> None:
    _go(page, "Simulate")
    _press(page, "Simulate")
    page.get_by_test_id("stVegaLiteChart").nth(4).wait_for()
    shoot("simulate")


def _profiles(page: Any, shoot: Shoot) -> None:
    _go(page, "Profiles")
    page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    shoot("profiles-kernels")
    page.get_by_role("tab", name="One deployment").click()
    page.get_by_role("button", name="Estimate").click()
    page.get_by_text("TTFT mean").wait_for()
    shoot("profiles-deployment")
    for tab in ("Interference", "Catalogue"):
        page.get_by_role("tab", name=tab).click()
        shoot(f"profiles-{tab.lower()}")


def _export(page: Any, shoot: Shoot) -> None:
    _go(page, "Export and check")
    page.get_by_role("button", name="files as ZIP").wait_for()
    shoot("export")
    page.get_by_role("tab", name="Check").click()
    page.get_by_role("button", name="Check", exact=True).click()
    page.get_by_text(re.compile("^Held|^Did not hold")).wait_for()
    shoot("check")


def _picture(page: Any, path: Path, width: int, part: str | None) -> None:
    """The whole page or a part: Streamlit scrolls inside, so the window is made as high as what it holds."""
    _settle(page)
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": width, "height": max(HEIGHT, height)})
    _settle(page)
    (page if part is None else page.locator(part)).screenshot(path=path)
    with Image.open(path) as picture:
        picture.quantize(COLOURS).save(path, optimize=True)
    page.set_viewport_size({"width": width, "height": HEIGHT})


def _settle(page: Any) -> None:
    """Nothing runs any more, and what was drawn has had its time."""
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")
    page.wait_for_timeout(SETTLE_MS)


if __name__ == "__main__":
    main()
