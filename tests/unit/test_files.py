"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from planner.files import OutputError, atomic_write_text, check_writable


def test_text_is_written_as_utf8_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    atomic_write_text(path, "größe: 3 µs\n")
    assert path.read_bytes() == "größe: 3 µs\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_stood_there_is_replaced_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("a much longer text that stood there before\n")
    atomic_write_text(path, "new\n")
    assert path.read_text() == "new\n"


def test_a_text_that_cannot_be_written_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("old\n")
    with pytest.raises(OutputError, match="UTF-8"):
        atomic_write_text(path, "broken \ud800")
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_rename_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("old\n")

    def full(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        atomic_write_text(path, "new\n")
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("name", ["none/plan.yaml", "file/plan.yaml", ""])
def test_no_file_can_stand_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / name)
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write_text(tmp_path / name, "text")


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OutputError, match="not a plain file"):
        atomic_write_text(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


def test_a_name_too_long_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write_text(tmp_path / ("x" * 300), "text")


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "plan.yaml")
    assert not list(tmp_path.iterdir())
