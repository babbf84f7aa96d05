"""Measured latencies of stages."""

from pathlib import Path

import pytest

from profiles.errors import ProfileError
from profiles.latency_table import read_latency_tables

HEADER = "gpu,tp,pp,batch,stage,latency_s,weight_bytes\n"
GOOD = """v100-sxm-16gb,1,1,1,0,0.05,2600000000
v100-sxm-16gb,1,1,4,0,0.08,2600000000
v100-sxm-16gb,1,2,1,1,0.03,1200000000
v100-sxm-16gb,1,2,1,0,0.025,1400000000
"""


def read(folder: Path, rows: str) -> Path:
    path = folder / "ranker.csv"
    path.write_text(HEADER + rows, encoding="utf-8")
    return path


def test_tables_by_gpu_and_parallelism(tmp_path: Path) -> None:
    tables = read_latency_tables(read(tmp_path, GOOD))
    assert set(tables) == {("v100-sxm-16gb", 1, 1), ("v100-sxm-16gb", 1, 2)}
    one, two = tables["v100-sxm-16gb", 1, 1], tables["v100-sxm-16gb", 1, 2]
    assert one.batch_sizes.tolist() == [1, 4] and one.max_batch == 4
    assert two.stage_latency_s.tolist() == [[0.025, 0.03]]
    assert two.weight_bytes.tolist() == [1_400_000_000, 1_200_000_000]
    assert not one.stage_latency_s.flags.writeable


def test_a_batch_between_two_sizes_takes_the_larger_one(tmp_path: Path) -> None:
    table = read_latency_tables(read(tmp_path, GOOD))["v100-sxm-16gb", 1, 1]
    assert [table.latency_s(b)[0] for b in (1, 2, 4)] == [0.05, 0.08, 0.08]
    for batch in (0, 5):
        with pytest.raises(ValueError, match="outside 1 to 4"):
            table.latency_s(batch)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("g,1,1,1,0,nan,1\n", "line 2, column latency_s: must be finite"),
        ("g,1,1,1,0,0,1\n", "line 2, column latency_s: must be above 0"),
        ("g,1,1,1,0,-0.1,1\n", "column latency_s: must be above 0"),
        ("g,1,1,1,0,inf,1\n", "column latency_s: must be finite"),
        ("g,1,1,1,0,0.1,-1\n", "column weight_bytes: must be at least 0"),
        ("g,0,1,1,0,0.1,1\n", "column tp: must be at least 1"),
        ("g,1,1,1.5,0,0.1,1\n", "column batch: must be a whole number"),
        ("g,1,1,1e12,0,0.1,1\n", "column batch: must be at most"),
        ("g,1,1e9,1,0,0.1,1\n", "column pp: must be at most"),
        ("g,1,2,1,2,0.1,1\n", "column stage: must be at most 1"),
        (",1,1,1,0,0.1,1\n", "column gpu: is empty"),
        ("g,1,1,1,0,0.1,1\ng,1,1,1,0,0.2,1\n", "line 3, column batch: stage 0 of batch 1 on g"),
        ("g,1,2,1,0,0.1,1\n", "batch 1 on g with tp 1, pp 2 has no row for stage 1"),
        ("g,1,1,1,0,0.1,1\ng,1,1,2,0,0.1,2\n", "weight_bytes of stage 0 on g with tp 1, pp 1 differ"),
    ],
)
def test_bad_tables(rows: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=says) as caught:
        read_latency_tables(read(tmp_path, rows))
    assert "ranker.csv" in str(caught.value)
