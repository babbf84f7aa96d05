"""Joint distributions of lengths."""

import numpy as np
import pytest

from profiles.errors import ProfileError
from profiles.lengths import (
    LengthDistribution,
    TraceSummary,
    length_names,
    load_lengths,
    load_summary,
    moment_lengths,
    trace_lengths,
)
from profiles.summarise_lengths import _correlation, _ranks

DRAWS = 200_000


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def some() -> dict[str, LengthDistribution]:
    drawn = moment_lengths(input_mean=900, input_cv=1, output_mean=200, output_cv=0.8, correlation=0.5)
    rows = drawn.sample(5000, rng())
    return {
        "azure": load_lengths("azure-2023-conversation"),
        "moments": moment_lengths(input_mean=1155, input_cv=0.9, output_mean=211, output_cv=1.0),
        "correlated": drawn,
        "trace": trace_lengths(*rows),
    }


@pytest.mark.parametrize("name", length_names())
def test_a_shipped_table_gives_back_the_trace_s_figures(name: str) -> None:
    summary = load_summary(name)
    lengths = summary.lengths
    assert lengths.mean_input == pytest.approx(summary.input_tokens.mean, rel=0.01)
    assert lengths.mean_output == pytest.approx(summary.output_tokens.mean, rel=0.01)
    inputs, outputs = lengths.sample(DRAWS, rng())
    assert inputs.std() / inputs.mean() == pytest.approx(summary.input_tokens.cv, rel=0.03)
    assert outputs.std() / outputs.mean() == pytest.approx(summary.output_tokens.cv, rel=0.03)
    spearman = _correlation(_ranks(inputs.astype(float)), _ranks(outputs.astype(float)))
    assert spearman == pytest.approx(summary.spearman, abs=0.015)
    assert 0.5 < summary.arrivals.mean_rps < 50 and summary.licence and summary.provenance.source


def test_shipped_figures_are_those_of_the_published_traces() -> None:
    azure, mooncake = load_summary("azure-2023-conversation"), load_summary("mooncake-conversation")
    assert (azure.requests, round(azure.input_tokens.mean), round(azure.output_tokens.mean)) == (19_366, 1155, 211)
    assert (mooncake.requests, round(mooncake.input_tokens.mean)) == (12_031, 12_035)


@pytest.mark.parametrize("kind", ["azure", "moments", "correlated", "trace"])
def test_samples_have_the_means_and_quantiles(kind: str) -> None:
    lengths = some()[kind]
    inputs, outputs = lengths.sample(DRAWS, rng())
    assert inputs.dtype == outputs.dtype == np.int64 and inputs.shape == (DRAWS,)
    assert min(inputs.min(), outputs.min()) >= 1
    assert inputs.mean() == pytest.approx(lengths.mean_input, rel=0.015)
    assert outputs.mean() == pytest.approx(lengths.mean_output, rel=0.015)
    for level in (0.1, 0.5, 0.99):
        assert (inputs <= lengths.input_quantile(level) + 0.5).mean() == pytest.approx(level, abs=0.01)
        assert (outputs <= lengths.output_quantile(level) + 0.5).mean() == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("kind", ["azure", "moments", "correlated", "trace"])
def test_length_classes_make_up_the_whole(kind: str) -> None:
    lengths = some()[kind]
    inputs, outputs = lengths.sample(DRAWS, rng())
    shares, mean_input, mean_output = 0.0, 0.0, 0.0
    for low, high in ((0, 300), (300, 1200), (1200, float("inf"))):
        part, share = lengths.restricted(low, high)
        inside = (inputs > low) & (inputs <= high)
        assert share == pytest.approx(inside.mean(), abs=0.01)
        own_inputs, own_outputs = part.sample(DRAWS // 4, rng())
        assert low < own_inputs.min() and own_inputs.max() <= high
        assert own_inputs.mean() == pytest.approx(part.mean_input, rel=0.02)
        assert own_outputs.mean() == pytest.approx(part.mean_output, rel=0.03)
        assert outputs[inside].mean() == pytest.approx(part.mean_output, rel=0.05)
        assert (own_outputs <= part.output_quantile(0.9) + 0.5).mean() == pytest.approx(0.9, abs=0.02)
        shares, mean_input = shares + share, mean_input + share * part.mean_input
        mean_output += share * part.mean_output
    assert shares == pytest.approx(1.0)
    assert mean_input == pytest.approx(lengths.mean_input, rel=1e-3)
    assert mean_output == pytest.approx(lengths.mean_output, rel=0.01)


def test_a_class_of_a_class() -> None:
    middle, _ = load_lengths("azure-2023-conversation").restricted(300, 2000)
    part, share = middle.restricted(0, 1000)
    inputs, _ = part.sample(1000, rng())
    assert inputs.min() > 300 and inputs.max() <= 1000
    assert 0 < share < 1


def test_correlated_lengths_grow_together() -> None:
    lengths = moment_lengths(input_mean=900, input_cv=1, output_mean=200, output_cv=0.8, correlation=0.7)
    short, _ = lengths.restricted(0, 300)
    long, _ = lengths.restricted(2000, 1e9)
    assert short.mean_output < lengths.mean_output < long.mean_output


def test_cv_zero_is_a_fixed_length() -> None:
    lengths = moment_lengths(input_mean=1000, input_cv=0, output_mean=250, output_cv=0)
    inputs, outputs = lengths.sample(50, rng())
    assert set(inputs.tolist()) == {1000} and set(outputs.tolist()) == {250}
    assert (lengths.mean_input, lengths.mean_output, lengths.input_quantile(0.99)) == (1000, 250, 1000)
    part, share = lengths.restricted(500, 1000)
    assert share == 1.0 and part.mean_input == 1000
    with pytest.raises(ProfileError, match="No request has between"):
        lengths.restricted(0, 999)


def test_the_same_seed_draws_the_same() -> None:
    for lengths in some().values():
        first, second = lengths.sample(100, rng()), lengths.sample(100, rng())
        assert (first[0] == second[0]).all() and (first[1] == second[1]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_mean": 0.5}, "mean of input tokens must be at least 1"),
        ({"output_mean": float("nan")}, "mean of output tokens"),
        ({"input_mean": 1e308}, "mean of input tokens"),
        ({"output_cv": -1.0}, "cv of output tokens"),
        ({"input_cv": float("inf")}, "cv of input tokens"),
        ({"correlation": 1.5}, "correlation"),
    ],
)
def test_bad_moments(change: dict[str, float], says: str) -> None:
    good = {"input_mean": 100.0, "input_cv": 1.0, "output_mean": 100.0, "output_cv": 1.0}
    with pytest.raises(ProfileError, match=says):
        moment_lengths(**{**good, **change})


def test_bad_traces_and_names() -> None:
    ones = np.ones(3, dtype=np.int64)
    for pair in ((ones, ones[:2]), (ones[:0], ones[:0]), (ones * 0, ones)):
        with pytest.raises(ProfileError, match="trace"):
            trace_lengths(*pair)
    with pytest.raises(ProfileError, match="Maybe you meant 'azure-2023-conversation'"):
        load_lengths("azure-2023-conv")


def test_a_trace_is_copied() -> None:
    tokens = np.array([5, 6], dtype=np.int64)
    lengths = trace_lengths(tokens, tokens)
    tokens[0] = 99
    assert lengths.mean_input == 5.5


@pytest.mark.parametrize("change", [{"levels": (0.0, 1.0)}, {"requests": 0}, {"spearman": 2.0}])
def test_summaries_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    good = load_summary("azure-2023-conversation").model_dump()
    with pytest.raises(ValueError, match="validation error"):
        TraceSummary.model_validate({**good, **change})
