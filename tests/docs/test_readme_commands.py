"""Every command that the README and the docs show runs, and every file they name exists."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from planner import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The lines after `$ ` in the page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_readme_shows_the_two_commands() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = [c.split()[1] for c in commands(ROOT / "README.md") if c.startswith("make ")]
    assert shown == ["plan", "test"]
    assert set(shown) <= set(targets)


def test_every_muxplan_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    shown = [c for c in commands(ROOT / "README.md") if c.startswith("muxplan ")]
    assert len(shown) >= 8
    for command in shown:
        assert cli.main(shlex.split(command)[1:]) == 0, command


def test_the_answer_shown_is_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(ROOT / "examples" / "chat_fleet.yaml")]) == 0
    answer = capsys.readouterr().out.splitlines()
    block = (ROOT / "README.md").read_text(encoding="utf-8").split("The answer begins like this:")[1].split("```")[1]
    assert answer[: len(block.strip().splitlines())] == block.strip().splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_the_docs_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:tests|profiles|planner|docs|examples)/[\w./-]+)`", text)
    for link in links:
        assert (page.parent / link).exists(), link
    for name in named:
        assert (ROOT / name).exists(), name
