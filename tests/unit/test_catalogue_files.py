"""Reading the catalogue's data files."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from profiles.catalogue_files import checked, data_names, load_data, load_path, nearest, parse_yaml
from profiles.errors import ProfileError


class Fruit(BaseModel):
    """A data file of the tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weight_g: float


def test_reads_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "apple.yaml"
    path.write_text("name: apple\nweight_g: 1.5e+2\n")
    assert load_path(path, Fruit) == Fruit(name="apple", weight_g=150.0)


def test_a_missing_file_is_a_profile_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        load_path(tmp_path / "none.yaml", Fruit)


def test_yaml_that_would_run_code_is_refused() -> None:
    with pytest.raises(ProfileError, match="not valid YAML"):
        parse_yaml("!!python/object/apply:os.system ['true']", "evil")


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "7", "", "a: [1\n"])
def test_yaml_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ProfileError, match="origin"):
        parse_yaml(text, "origin")


def test_an_unknown_field_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ProfileError, match=r"weight_kg.*Maybe you meant 'weight_g'"):
        checked({"name": "apple", "weight_g": 1.0, "weight_kg": 1.0}, Fruit, "apple")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ProfileError, match="Maybe you meant 'h100-sxm-80gb'"):
        load_data("gpus", "h100-sxm-80g", Fruit)


def test_a_name_like_none_lists_what_there_is() -> None:
    with pytest.raises(ProfileError, match=r"Known: .*h100-sxm-80gb"):
        load_data("gpus", "qqqqqqqq", Fruit)


def test_a_name_cannot_leave_the_folder() -> None:
    with pytest.raises(ProfileError, match="not in the catalogue"):
        load_data("gpus", "../engines/vllm", Fruit)


def test_names_are_sorted_and_have_no_suffix() -> None:
    names = data_names("gpus")
    assert list(names) == sorted(names)
    assert not any(name.endswith(".yaml") for name in names)


def test_nearest_ignores_case_and_gives_up_far_away() -> None:
    assert nearest("H100-SXM-80G", ["h100-sxm-80gb"]) == " Maybe you meant 'h100-sxm-80gb'."
    assert nearest("zzz", ["h100-sxm-80gb"]) == ""
