"""A user's own kernels from a CSV file."""

from pathlib import Path

import pytest

from profiles.errors import ProfileError
from profiles.import_csv import read_csv
from profiles.kernel_kinds import KINDS
from tests.kernel_cases import H100

HEADER = "device,kernel,operand,m,n,k,head_dim,heads,kv_heads,batch,context,operation,gpus,bytes,latency_us"
GEMM = "H100,gemm,bf16,64,4096,4096,,,,,,,,,12.5"
DECODE = "H100,decode_attention,fp8,,,,128,32,8,4,1024,,,,11.5"
REDUCE = "H100,collective,,,,,,,,,,all_reduce,8,65536,6.5"


def write(path: Path, *lines: str) -> Path:
    """A file of those lines under the header."""
    file = path / "mine.csv"
    file.write_text("\n".join((HEADER, *lines, "")))
    return file


def test_one_file_holds_several_kinds(tmp_path: Path) -> None:
    reading = read_csv(H100, write(tmp_path, GEMM, DECODE, REDUCE))
    found = {s.kind.name: s for s in reading.samples}
    assert set(found) == {"gemm", "decode_attention", "collective"} <= set(KINDS)
    assert reading.device == "H100"
    assert found["gemm"].seconds.tolist() == [12.5e-6]
    assert found["decode_attention"].columns["window"].tolist() == [0.0], "no window unless one is given"
    assert found["collective"].columns["operation"].tolist() == ["all_reduce"]
    assert found["collective"].rows.tolist() == [4]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GEMM.replace("12.5", "0"), r"line 3, column latency_us: must be above 0"),
        (GEMM.replace("12.5", "nan"), r"line 3, column latency_us: must be finite"),
        (GEMM.replace("12.5", "fast"), r"line 3, column latency_us: must be a number"),
        (GEMM.replace(",64,", ",6.4,"), r"line 3, column m: must be a whole number"),
        (GEMM.replace(",64,", ",,"), r"line 3, column m: is empty"),
        (GEMM.replace("bf16", "bf17"), r"line 3, column operand: 'bf17' is not known; of gemm known are bf16, fp8"),
        (GEMM.replace("gemm", "gem"), r"line 3, column kernel: 'gem' is not known"),
        (GEMM.replace("H100", "A100"), r"line 3, column device: is 'A100', but the lines before it are of 'H100'"),
        (
            DECODE.replace("fp8", "fp4"),
            r"line 3, column operand: 'fp4' is not known; of decode_attention known",
        ),
        (REDUCE.replace("all_reduce", "reduce"), r"line 3, column operation: 'reduce' is not known"),
        (GEMM[:-5], r"line 3: 14 values under 15 columns"),
        ("H100,moe,bf16,1,,,,,,,,,,,9", r"line 1: column hidden is missing; moe needs operand, hidden"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read_csv(H100, write(tmp_path, GEMM, line))
