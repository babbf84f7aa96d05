"""The pages on the example in a real browser: the first page, a slider's answers, and five sessions' memory."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_memory import PlanMemory
from planner.progress import Progress
from planner.spec_edit import with_changes
from planner.spec_load import load_spec
from tests.browser.test_browser import CHROMIUM, free_port, go, metric, page_link, press_plan, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT_MS = 300_000
FIRST_PAGE_S = 2.0
SLIDER_S = 1.5
SESSIONS = 5
MEMORY_BYTES = 1.5 * 2**30

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    """(address, process id) of `muxplan ui` on the examples."""
    port = free_port()
    root = str(EXAMPLES.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    program = [sys.executable, "-m", "planner.cli", "ui", str(EXAMPLES), "--port", str(port)]
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, process)
        yield address, process.pid
        process.terminate()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def session(chromium: Any) -> Any:
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(WAIT_MS)
    return page


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_the_first_page_is_there_within_two_seconds(chromium: Any, server: tuple[str, int]) -> None:
    def first_page() -> None:
        page = session(chromium)
        go(page, server[0])
        page.get_by_text("Pools: what there is").wait_for()
        page.context.close()

    taken = [timed(first_page) for _ in range(5)]
    sys.stdout.write("first page: " + ", ".join(f"{s:.2f}" for s in taken) + " s\n")
    assert statistics.median(taken) <= FIRST_PAGE_S


def test_a_slider_is_answered_within_a_second_and_a_half(chromium: Any, server: tuple[str, int]) -> None:
    page = session(chromium)
    go(page, server[0])
    press_plan(page)
    page.get_by_text("Where everything runs").wait_for()
    page_link(page, "What if")
    page.get_by_text("What matters most").wait_for()
    answered, verified = [], []
    for label in ("All traffic ×", "All traffic ×", "All latency limits ×"):
        answer_s, plan_s = drag(page, label)
        answered.append(answer_s)
        verified.append(plan_s)
    sys.stdout.write("slider to estimate: " + ", ".join(f"{s:.2f}" for s in answered) + " s; ")
    sys.stdout.write("to the simulated plan: " + ", ".join(f"{s:.2f}" for s in verified) + " s\n")
    page.context.close()
    assert statistics.median(answered) <= SLIDER_S


def drag(page: Any, label: str) -> tuple[float, float]:
    """Seconds from one step of a slider to the estimate (or plan) of the new scenario, and to its plan."""
    handle = page.get_by_test_id("stSlider").filter(has_text=label).get_by_role("slider")
    handle.focus()
    # Marks what stands there now: what comes after a rerun is drawn anew.
    page.evaluate("document.querySelectorAll('[data-testid=stMetricLabel]').forEach(e => e.dataset.old = '1')")
    start = time.perf_counter()
    handle.press("ArrowRight")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-testid=stMetricLabel]')]"
        ".some(e => e.innerText.includes('Estimate') || (e.innerText.includes('Cost') && !e.dataset.old))"
    )
    answer_s = time.perf_counter() - start
    page.get_by_test_id("stMetric").filter(has_text="Cost, USD/h").wait_for()
    page.get_by_text("against the scenario as it stands").wait_for()
    return answer_s, time.perf_counter() - start


def test_five_sessions_on_the_example_do_not_mix_and_stay_small(chromium: Any, server: tuple[str, int]) -> None:
    loaded, memory = load_spec(EXAMPLES / "chat_fleet.yaml"), PlanMemory()
    changes = [{"workloads.chat.traffic.rate_rps": f"x{1 + number / 2:g}"} for number in range(SESSIONS)]
    pages = [session(chromium) for _ in changes]
    for page, change in zip(pages, changes, strict=True):
        go(page, server[0], f"?{urlencode({'spec': 'chat_fleet.yaml', 'set': json.dumps(change)})}")
        # Five plans share the cores: each gets the time that it needs.
        page.get_by_label("Time limit, s").fill("900")
        page.keyboard.press("Enter")
        press_plan(page)
    for page, change in zip(pages, changes, strict=True):
        page.get_by_text("Where everything runs").wait_for(timeout=3 * WAIT_MS)
        expected = plan_spec(with_changes(loaded, change), PlanOptions(memory=memory), Progress())
        assert metric(page, "Cost, USD/h") == f"{expected.cost_usd_per_hour:,.2f}"
        page_link(page, "Profiles")
        page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    used_bytes = psutil.Process(server[1]).memory_info().rss
    sys.stdout.write(f"{SESSIONS} sessions: {used_bytes / 2**20:,.0f} MiB\n")
    for page in pages:
        page.context.close()
    assert used_bytes <= MEMORY_BYTES
