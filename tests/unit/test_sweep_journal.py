from pathlib import Path

import pytest

from planner.files import OutputError
from planner.sweep_journal import Journal


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "r.csv.journal"
    with Journal(path, "key") as journal:
        journal.add(3, {"cost": 1.5})
    with Journal(path, "key") as journal:
        assert journal.rows == {3: {"cost": 1.5}}
        journal.add(0, {"cost": None})
    with Journal(path, "key") as journal:
        assert sorted(journal.rows) == [0, 3]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_by_a_kill_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    with Journal(path, "key") as journal:
        journal.add(0, {"cost": 1.5})
        journal.add(1, {"cost": 2.5})
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, "key") as journal:
        assert journal.rows == {0: {"cost": 1.5}}
        journal.add(1, {"cost": 2.5})
    with Journal(path, "key") as journal:
        assert len(journal.rows) == 2


def test_another_sweeps_journal_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "key"):
        pass
    with pytest.raises(OutputError, match="begun with other input"), Journal(tmp_path / "j", "other"):
        pass


def test_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("a diary\n", encoding="utf-8")
    with pytest.raises(OutputError, match="no journal"), Journal(path, "key"):
        pass
    assert path.read_text(encoding="utf-8") == "a diary\n"


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", "key"),
        pytest.raises(OutputError, match="another sweep is writing"),
        Journal(tmp_path / "j", "key"),
    ):
        pass
