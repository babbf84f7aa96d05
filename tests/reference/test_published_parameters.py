"""Every model of the catalogue, counted from its shapes, has the parameters its makers state."""

import pytest

from profiles.models import load_model, model_names
from profiles.parameters import active_parameter_count, parameter_count


def test_the_catalogue_is_wide() -> None:
    assert len(model_names()) >= 25


@pytest.mark.parametrize("name", model_names())
def test_parameters_match_the_published_total(name: str) -> None:
    model = load_model(name)
    assert model.name == name
    assert model.parameters is not None and model.parameters.source
    assert parameter_count(model) == pytest.approx(model.parameters.total, rel=0.01)


@pytest.mark.parametrize(
    ("name", "active"),
    [
        # Model cards; gpt-oss counts the output head but not the input embedding.
        ("qwen3-30b-a3b", 3.3e9),
        ("qwen3-235b-a22b", 22e9),
        ("mixtral-8x7b", 12.9e9),
        ("mixtral-8x22b", 39e9),
        ("deepseek-v3", 37e9),
        ("gpt-oss-20b", 3.61e9 + 201_088 * 2880),
        ("gpt-oss-120b", 5.13e9 + 201_088 * 2880),
    ],
)
def test_active_parameters_match_the_published_ones(name: str, active: float) -> None:
    assert active_parameter_count(load_model(name)) == pytest.approx(active, rel=0.03)


def test_every_parameter_of_a_dense_model_is_active() -> None:
    model = load_model("llama-3.1-8b")
    assert active_parameter_count(model) == parameter_count(model)
