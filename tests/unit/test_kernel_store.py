"""Kernel tables on disk: the same back, whole or not at all, and nothing damaged is read."""

import datetime
import gzip
from pathlib import Path

import numpy as np
import pytest

from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.import_tables import Imported, Reading, build_tables
from profiles.kernel_kinds import KINDS
from profiles.kernel_store import INDEX, load_grids, pack, read_index, unpack, write_tables
from profiles.kernel_table import load_tables, tables_of
from tests.kernel_cases import H100, flat, gemm_grid, gemm_samples

SHAPES = {("bf16", n, k): flat(1.2) for n in (2048, 4096, 8192) for k in (2048, 4096, 8192)}


def imported() -> Imported:
    """Tables of a few products."""
    reading = Reading(samples=[gemm_samples(SHAPES)], device="H100", origin="made up")
    return build_tables(reading, H100, datetime.date(2026, 1, 1), "a notice")


def written(folder: Path) -> Path:
    """Those tables in a folder."""
    made = imported()
    write_tables(folder, made.index, made.packed)
    return folder


def test_packing_gives_the_same_grid_and_bytes() -> None:
    grid = gemm_grid(SHAPES)
    packed = pack(grid)
    back = unpack(packed, KINDS["gemm"], "x")
    assert back.keys == grid.keys
    np.testing.assert_array_equal(back.sizes, grid.sizes)
    np.testing.assert_allclose(back.seconds, grid.seconds, rtol=1e-4)
    assert pack(back) == packed


def test_written_tables_are_read_again(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    tables = load_tables(folder, H100)
    curve = tables.gemm("bf16", 4096, 4096)
    assert curve is not None
    assert read_index(folder).notice == "a notice"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"], "nothing is left beside them"


def test_tables_are_replaced_whole(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    (folder / "moe.csv.gz").write_bytes(b"of an older import")
    written(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["gemm.csv.gz", INDEX]


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ProfileError, match="holds no kernel tables"):
        written(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_breaks_off_leaves_the_old_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "mine")
    before = (folder / INDEX).read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ProfileError, match="cannot be written: No space left"):
        written(folder)
    assert (folder / INDEX).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_changed_table_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    path = folder / "gemm.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ProfileError, match=r"gemm.csv.gz is not the file that was imported"):
        load_grids(folder, read_index(folder))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    (folder / "gemm.csv.gz").unlink()
    with pytest.raises(ProfileError, match=r"gemm.csv.gz cannot be read"):
        load_tables(folder, H100)


def test_tables_of_another_gpu_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    with pytest.raises(ProfileError, match="are of h100-sxm-80gb, not of mine"):
        load_tables(folder, H100.model_copy(update={"name": "mine"}))


def test_a_gpu_names_its_tables(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine")
    mine = tables_of(H100.model_copy(update={"kernels": str(folder)}))
    assert mine is not None and set(mine.kinds) == {"gemm"}
    assert tables_of(H100.model_copy(update={"kernels": None})) is None
    other = Gpu.model_validate({**H100.model_dump(), "name": "mine"})
    assert tables_of(other) is None, "shipped tables serve the GPU they were measured on"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operand,n,k\nbf16,1,1", "line 1: the sizes must increase"),
        ("operand,n,k,8,4\nbf16,1,1,2,3", "line 1: the sizes must increase"),
        ("n,k,m,1\n1,1,1,1", "line 1: must begin with operand,n,k"),
        ("operand,n,k,1,2\nbf16,1,1,5", "line 2: 4 values under 5 columns"),
        ("operand,n,k,1,2\nbf16,1,1,5,-6", "line 2: a value is not above 0"),
        ("operand,n,k,1,2\nbf16,1,1,5,six", "line 2: could not convert"),
        ("operand,n,k,1,2\nbf16,one,1,5,6", "line 2: invalid literal"),
        ("operand,n,k,1,2", "has no curves"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        unpack(gzip.compress(text.encode()), KINDS["gemm"], "x")


def test_a_cut_table_is_refused() -> None:
    with pytest.raises(ProfileError, match="truncated"):
        unpack(pack(gemm_grid(SHAPES))[:-30], KINDS["gemm"], "x")
