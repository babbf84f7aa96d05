import numpy as np
import pytest

from profiles.errors import ProfileError
from profiles.measured_steps import MeasuredSteps, StepLaw, tabulate_measured
from profiles.precision import KvDtype, Quantization
from profiles.step_fit import Decoding, Prefilling, WorkerTime, fit_steps, fit_worker_time, worker_cpu_s

FIXED_S, TOKEN_S, KV_S, SQUARED_S = 0.010, 0.0007, 2e-7, 1e-7
REQUEST_S, INPUT_S = 0.004, 3e-6


def decode_s(batch: int, kv_tokens: float) -> float:
    return FIXED_S + TOKEN_S * batch + KV_S * kv_tokens


def prompt_s(tokens: int) -> float:
    return FIXED_S + TOKEN_S * tokens + SQUARED_S * tokens**2


def points() -> tuple[list[Decoding], list[Prefilling]]:
    decoding = [Decoding(batch=b, kv_tokens=32.0 * b, step_s=decode_s(b, 32.0 * b)) for b in (1, 2, 4, 8, 16)]
    decoding.append(Decoding(batch=4, kv_tokens=4000.0, step_s=decode_s(4, 4000.0)))
    prefilling = [
        Prefilling(tokens=n, step_s=prompt_s(n), ttft_s=prompt_s(n) + REQUEST_S + INPUT_S * n)
        for n in (32, 128, 512, 1024)
    ]
    return decoding, prefilling


def test_a_law_is_found_again_from_its_own_points() -> None:
    fitted = fit_steps(*points())
    assert fitted.step.kv_token_s == pytest.approx(KV_S, rel=1e-6)
    assert fitted.step.prompt_token_squared_s == pytest.approx(SQUARED_S, rel=1e-6)
    assert fitted.request_s == pytest.approx(REQUEST_S, rel=1e-6)
    assert fitted.input_token_s == pytest.approx(INPUT_S, rel=1e-6)
    tokens = np.array([1.0, 10.0, 300.0, 2048.0])
    np.testing.assert_allclose(fitted.step.linear_at(tokens), FIXED_S + TOKEN_S * tokens, rtol=1e-6)
    assert fitted.error_fraction < 1e-6


def test_more_tokens_never_take_less_time_even_when_a_point_is_off() -> None:
    decoding, prefilling = points()
    decoding[2] = Decoding(batch=4, kv_tokens=128.0, step_s=0.5 * decoding[2].step_s)
    law = fit_steps(decoding, prefilling).step
    assert np.all(np.diff(law.linear_at(np.arange(1.0, 2000.0))) >= 0)


def test_too_few_points_are_refused() -> None:
    decoding, prefilling = points()
    with pytest.raises(ProfileError, match="two batch sizes and three prompt lengths"):
        fit_steps(decoding[:1], prefilling)
    with pytest.raises(ProfileError, match="two batch sizes and three prompt lengths"):
        fit_steps(decoding, prefilling[:2])


def test_worker_time_is_found_again_and_priced() -> None:
    windows = [
        WorkerTime(
            cpu_s=33 * FIXED_S + TOKEN_S * 48 * b + KV_S * 1000.0 * b, steps=33, tokens=48.0 * b, kv_tokens=1000.0 * b
        )
        for b in (1, 2, 4, 8)
    ]
    windows.append(WorkerTime(cpu_s=33 * FIXED_S + TOKEN_S * 4000 + KV_S * 1e5, steps=33, tokens=4000, kv_tokens=1e5))
    law = fit_worker_time(windows)
    for window in windows:
        assert worker_cpu_s(law, window) == pytest.approx(window.cpu_s, rel=1e-6)


def test_a_measured_law_becomes_the_table_of_the_simulator() -> None:
    law = StepLaw(tokens=(1, 101), linear_s=(0.01, 0.02), kv_token_s=KV_S, prompt_token_squared_s=SQUARED_S)
    steps = MeasuredSteps(
        model="m",
        model_digest="0" * 16,
        quantization=Quantization.FP32,
        kv_dtype=KvDtype.FP32,
        step=law,
        request_s=REQUEST_S,
        input_token_s=INPUT_S,
        error_fraction=0.0,
        repeats=1,
    )
    table = tabulate_measured(steps, 512)
    assert table.linear_s[0] == 0.0
    assert table.linear_s[51] == pytest.approx(0.015)
    assert table.linear_s[501] == pytest.approx(0.06)
    assert table.decode_attention_s[3, 10] == pytest.approx(KV_S * 1024)
    assert table.prefill_attention_s[2] == pytest.approx(SQUARED_S * 128**2)
    assert table.front_end_request_s == REQUEST_S


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (2, 1)}, "tokens must increase"),
        ({"linear_s": (0.02, 0.01)}, "must not fall"),
        ({"linear_s": (0.01,)}, "2 token counts but 1 times"),
        ({"kv_token_s": float("nan")}, "finite"),
    ],
)
def test_laws_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "tokens": (1, 2),
        "linear_s": (0.01, 0.02),
        "kv_token_s": 0.0,
        "prompt_token_squared_s": 0.0,
    }
    with pytest.raises(ValueError, match=message):
        StepLaw.model_validate(good | changes)
