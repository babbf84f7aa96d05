"""The pages in a real headless Chromium, served by `muxplan ui` itself."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_io import read_plan
from planner.progress import Progress
from planner.spec_load import load_spec
from tests.small_spec import SMALL, written

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 60_000
MEMORY_LIMIT_BYTES = 1.5 * 2**30

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    written(folder, SMALL.replace("rate_rps: 10.0", "rate_rps: 50.0"))
    tight = SMALL.replace("rate_rps: 10.0", "rate_rps: 900.0").replace("max_nodes: 4", "max_nodes: 40")
    (folder / "tight.yaml").write_text(tight + "constraints:\n  - {kind: max_gpus, count: 1}\n", encoding="utf-8")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(workspace: Path) -> Iterator[tuple[str, int]]:
    """(address, process id) of `muxplan ui` on the workspace."""
    port = free_port()
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    program = [sys.executable, "-m", "planner.cli", "ui", str(workspace), "--port", str(port)]
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, process)
            yield address, process.pid
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[tuple[str, int]]:
    """One server for all tests that do not say otherwise."""
    with served(workspace) as found:
        yield found


def wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1.0):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any, server: tuple[str, int]) -> Iterator[Any]:
    """A fresh browser session of 1280 px; in the end no error on the console, no exception text, no overflow."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    faults = listened(page)
    yield page
    sound(page)
    assert faults == []
    context.close()


def listened(page: Any) -> list[str]:
    """The errors that the page's console will have seen."""
    faults: list[str] = []
    page.on(
        "console",
        lambda message: faults.append(f"{message.text} {message.location}") if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: faults.append(str(error)))
    return faults


def sound(page: Any) -> None:
    assert page.get_by_test_id("stException").count() == 0
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def go(page: Any, address: str, path: str = "") -> None:
    page.goto(f"{address}/{path}")
    page.get_by_role("heading", level=1).wait_for()


def metric(page: Any, label: str) -> str:
    box = page.get_by_test_id("stMetric").filter(has_text=label)
    box.wait_for()
    return str(box.get_by_test_id("stMetricValue").inner_text()).strip()


def plan_button(page: Any) -> Any:
    return page.get_by_test_id("stBaseButton-primary").filter(has_text="Plan")


def press_plan(page: Any) -> None:
    plan_button(page).click()


def page_link(page: Any, name: str) -> None:
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


def test_plan_keep_and_compare(tab: Any, server: tuple[str, int]) -> None:
    go(tab, server[0])
    press_plan(tab)
    cost = metric(tab, "Cost, USD/h")
    tab.get_by_text("Where everything runs").wait_for()
    sound(tab)
    tab.get_by_role("button", name="Keep to compare").click()
    tab.get_by_text("Kept as small").wait_for()
    page_link(tab, "What if")
    assert metric(tab, "Cost, USD/h") == cost
    slide(tab, "All traffic ×", 40)
    tab.get_by_text("+1.60 USD/h").wait_for()
    assert float(metric(tab, "Cost, USD/h")) > float(cost)
    tab.get_by_role("button", name="Keep to compare").click()
    tab.get_by_text("Kept as small traffic").wait_for()
    page_link(tab, "Compare")
    tab.get_by_text("Side by side").wait_for()
    tab.get_by_text("What changes").wait_for()


def slide(page: Any, label: str, steps: int) -> None:
    """Move a slider with the keyboard."""
    handle = page.get_by_test_id("stSlider").filter(has_text=label).get_by_role("slider")
    handle.focus()
    for _ in range(steps):
        handle.press("ArrowRight")


def test_upload_a_spec_and_plan_it(tab: Any, server: tuple[str, int], tmp_path: Path) -> None:
    go(tab, server[0])
    path = written(tmp_path, SMALL.replace("name: small", "name: uploaded"))
    tab.get_by_test_id("stSidebar").locator("input[type=file]").set_input_files(str(path))
    tab.get_by_test_id("stSidebar").get_by_text("does not carry this scenario").wait_for()
    press_plan(tab)
    tab.get_by_text("Where everything runs").wait_for()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Plan as YAML").click()
    saved = tmp_path / "plan.yaml"
    download.value.save_as(saved)
    assert read_plan(saved).name == "uploaded"


def test_an_infeasible_spec_shows_relaxations_and_one_is_clicked(tab: Any, server: tuple[str, int]) -> None:
    go(tab, server[0], "?spec=tight.yaml")
    press_plan(tab)
    tab.get_by_text("There is no plan.").wait_for()
    sound(tab)
    offer = tab.get_by_role("button", name=re.compile("tried: gives a plan"))
    allowed = [int(number) for number in re.findall(r"\d+", offer.inner_text())]
    offer.click()
    tab.get_by_text("Where everything runs").wait_for()
    # What the offer allows, not the count that is shown while a plan is being made.
    assert int(metric(tab, "GPUs")) in allowed, offer.inner_text()
    assert "max_gpus" in tab.url or "set=" in tab.url


def test_export_is_downloaded(tab: Any, server: tuple[str, int], tmp_path: Path) -> None:
    go(tab, server[0])
    press_plan(tab)
    tab.get_by_text("Where everything runs").wait_for()
    page_link(tab, "Export and check")
    with tab.expect_download() as download:
        tab.get_by_role("button", name=re.compile("files as ZIP")).click()
    saved = tmp_path / "export.zip"
    download.value.save_as(saved)
    assert saved.read_bytes().startswith(b"PK")


@pytest.mark.parametrize("path", ["export", "what-if"])
def test_a_link_to_a_page_opens_it_although_nobody_was_there_before(chromium: Any, workspace: Path, path: str) -> None:
    with served(workspace) as (address, _):
        page = chromium.new_context().new_page()
        page.set_default_timeout(WAIT_MS)
        go(page, address, f"{path}?spec=tight.yaml")
        page_link(page, "Plan")
        page.wait_for_url(re.compile(r"spec=tight\.yaml"))
        page.context.close()


def test_a_check_runs_live_and_stops(tab: Any, server: tuple[str, int]) -> None:
    go(tab, server[0])
    press_plan(tab)
    tab.get_by_text("Where everything runs").wait_for()
    page_link(tab, "Export and check")
    tab.get_by_role("tab", name="Check").click()
    tab.get_by_label("Independent draws").fill("50")
    tab.keyboard.press("Enter")
    check = tab.locator(".st-key-check-go button")
    check.click()
    tab.locator(".st-key-check-stop button").click()
    tab.get_by_text("Stopped before the end.").wait_for()
    sound(tab)
    tab.get_by_label("Independent draws").fill("20")
    tab.keyboard.press("Enter")
    check.click()
    tab.get_by_role("progressbar").first.wait_for()
    tab.get_by_text(re.compile("^(Held|Did not hold).*on the simulator, 20 ×")).wait_for()


def test_an_uploaded_trace_is_replayed(tab: Any, server: tuple[str, int], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    lines = [f"{i * 0.1:.1f},{200 + i},{20 + i % 30}" for i in range(300)]
    trace.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]) + "\n", encoding="utf-8")
    go(tab, server[0])
    press_plan(tab)
    tab.get_by_text("Where everything runs").wait_for()
    page_link(tab, "Simulate")
    tab.get_by_text("Replay a recorded trace").click()
    tab.get_by_test_id("stMain").locator(".st-key-sim-trace input[type=file]").set_input_files(str(trace))
    tab.get_by_text("trace.csv").wait_for()
    tab.get_by_test_id("stBaseButton-primary").filter(has_text="Simulate").click()
    tab.get_by_text(re.compile("^300 requests simulated")).wait_for()


def test_simulate_and_profiles_draw(tab: Any, server: tuple[str, int]) -> None:
    go(tab, server[0])
    press_plan(tab)
    tab.get_by_text("Where everything runs").wait_for()
    page_link(tab, "Simulate")
    tab.get_by_test_id("stBaseButton-primary").filter(has_text="Simulate").click()
    tab.get_by_text("Queue and tokens held").wait_for()
    tab.get_by_test_id("stVegaLiteChart").nth(4).wait_for()
    sound(tab)
    page_link(tab, "Profiles")
    tab.get_by_test_id("stVegaLiteChart").nth(1).wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (1920, "light")])
def test_every_page_fits(chromium: Any, server: tuple[str, int], width: int, scheme: str) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    faults = listened(page)
    go(page, server[0])
    for name in ("What if", "Compare", "Simulate", "Profiles", "Export and check", "Plan"):
        page_link(page, name)
        sound(page)
    assert faults == []
    context.close()


def test_a_chart_is_saved_as_a_picture_and_as_data(tab: Any, server: tuple[str, int]) -> None:
    go(tab, server[0])
    plan_button(tab).focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("Where everything runs").wait_for()
    # By keyboard: the toolbar fades in over the chart, which may still take the mouse.
    with tab.expect_download() as picture:
        tab.get_by_role("button", name="Download as PNG").first.focus()
        tab.keyboard.press("Enter")
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
    with tab.expect_download() as data:
        tab.get_by_role("button", name="Data as CSV").first.click()
    assert Path(data.value.path()).read_text(encoding="utf-8").startswith("pool,rack,node")


def test_five_sessions_do_not_mix_and_stay_small(chromium: Any, server: tuple[str, int], tmp_path: Path) -> None:
    contexts = [chromium.new_context(viewport={"width": 1280, "height": 900}) for _ in range(5)]
    pages = [context.new_page() for context in contexts]
    for number, page in enumerate(pages):
        page.set_default_timeout(WAIT_MS)
        go(page, server[0])
        folder = tmp_path / str(number)
        folder.mkdir()
        rate = 10.0 + 60.0 * number
        path = written(folder, SMALL.replace("name: small", f"name: s{number}").replace("10.0", f"{rate}"))
        page.get_by_test_id("stSidebar").locator("input[type=file]").set_input_files(str(path))
        page.get_by_test_id("stSidebar").get_by_text("does not carry this scenario").wait_for()
    for page in pages:
        press_plan(page)
    for number, page in enumerate(pages):
        page.get_by_text("Where everything runs").wait_for()
        assert page.get_by_label("Keep as").input_value() == f"s{number}"
        expected = plan_spec(load_spec(tmp_path / str(number) / "spec.yaml"), PlanOptions(), Progress())
        assert metric(page, "Cost, USD/h") == f"{expected.cost_usd_per_hour:,.2f}"
    assert psutil.Process(server[1]).memory_info().rss <= MEMORY_LIMIT_BYTES
    for context in contexts:
        context.close()


def test_the_server_listens_on_loopback_only(server: tuple[str, int]) -> None:
    connections = psutil.Process(server[1]).net_connections(kind="inet")
    listening = [c for c in connections if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
