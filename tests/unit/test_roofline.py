"""The laws of kernel times."""

import numpy as np
import pytest

from profiles.roofline import (
    DecodeLaw,
    PrefillLaw,
    Roof,
    causal_pairs,
    decode_attention_s,
    experts_touched,
    matmul_bytes,
    prefill_attention_s,
    roof_s,
    soft_max,
)

PREFILL = PrefillLaw(launch_s=1e-5, flops_per_s=6e14, extra_pairs=500.0, path_flops_per_s=5e12, sharpness=8.0)


def test_soft_max_is_a_sum_at_one_and_the_larger_one_in_the_limit() -> None:
    assert float(soft_max(3.0, 4.0, 1.0)) == pytest.approx(7.0)
    assert float(soft_max(3.0, 4.0, 2.0)) == pytest.approx(5.0)
    assert float(soft_max(3.0, 4.0, 200.0)) == pytest.approx(4.0)
    assert float(soft_max(0.0, 0.0, 2.0)) == 0.0


def test_a_roof_is_bound_by_memory_then_by_arithmetic() -> None:
    roof = Roof(launch_s=2e-6, bytes_per_s=1e12, flops_per_s=1e14, sharpness=100.0)
    assert float(roof_s(roof, 1e9, 1e9)) == pytest.approx(2e-6 + 1e-3)
    assert float(roof_s(roof, 1e3, 1e12)) == pytest.approx(2e-6 + 1e-2)


def test_matmul_bytes_counts_weights_once_and_rows_each() -> None:
    assert matmul_bytes(2.0, 3.0, 5.0, 1.0, 2.0) == 1 * 15 + 2 * (2 * 5 + 2 * 3)


@pytest.mark.parametrize(("experts", "chosen", "tokens"), [(8, 2, 1), (8, 2, 3), (5, 1, 4)])
def test_experts_touched_is_the_expectation(experts: int, chosen: int, tokens: int) -> None:
    rng = np.random.default_rng(1)
    draws = 20_000
    picks = rng.random((draws, tokens, experts)).argsort(axis=2)[:, :, :chosen]
    hit = np.zeros((draws, experts), dtype=bool)
    np.put_along_axis(hit, picks.reshape(draws, -1), True, axis=1)
    assert float(experts_touched(tokens, experts, chosen)) == pytest.approx(hit.sum(axis=1).mean(), rel=0.01)


def test_all_experts_are_touched_in_the_end() -> None:
    assert float(experts_touched(1, 128, 8)) == pytest.approx(8.0)
    assert float(experts_touched(10_000, 128, 8)) == pytest.approx(128.0)


def test_windowed_pairs_are_those_within_the_window() -> None:
    length, window = 400, 64
    counted = sum(min(i, window) for i in range(length))
    assert float(causal_pairs(float(length), float(window))) == pytest.approx(counted, rel=0.01)
    assert float(causal_pairs(32.0, 64.0)) == float(causal_pairs(32.0))


def test_prefill_of_nothing_takes_no_time_and_a_window_saves() -> None:
    lengths = np.array([0.0, 64.0, 8192.0])
    whole = prefill_attention_s(PREFILL, 32, 512.0, lengths)
    windowed = prefill_attention_s(PREFILL, 32, 512.0, lengths, 1024.0)
    assert whole[0] == 0.0 and windowed[0] == 0.0
    assert windowed[1] == whole[1]
    assert windowed[2] < 0.5 * whole[2]


def test_decode_reads_the_cache_at_the_law_s_rate() -> None:
    law = DecodeLaw(launch_s=1e-5, bytes_per_s=1e12, sequence_head_s=1e-8, flops_per_s=1e15)
    assert float(decode_attention_s(law, 10.0, 1e9, 1.0)) == pytest.approx(1e-5 + 1e-7 + 1e-3)
    assert float(decode_attention_s(law, 10.0, 1.0, 1e13)) == pytest.approx(1e-5 + 1e-7 + 1e-2)
