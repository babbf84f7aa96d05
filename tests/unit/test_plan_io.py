"""Plans are written whole and read back equal; files that nobody vouches for are refused in one sentence."""

import json
from pathlib import Path

import pytest
import yaml

from planner.plan_file import Plan
from planner.plan_io import (
    MOST_BYTES,
    MOST_DEPTH,
    PlanFileError,
    looks_like_plan,
    plan_to_json,
    plan_to_yaml,
    read_plan,
    write_plan,
)
from planner.spec_load import spec_from_plan
from tests.hand_plan import NO_PLAN, PLAN, changed
from tests.small_spec import SMALL
from tests.spec_fixtures import plan, random_spec, spec, write_tables

YAML = plan_to_yaml(PLAN)
JSON = plan_to_json(PLAN)
SPEC_END = '"name": "by-hand"\n  }'


def in_spec(text: str) -> str:
    """The plan as JSON with a field more in the spec that it carries, where fields of any type may stand."""
    assert SPEC_END in JSON
    return JSON.replace(SPEC_END, f'"name": "by-hand", "odd": {text}\n  }}')


def replaced(old: str, new: str) -> str:
    """The plan as YAML with the first such piece replaced."""
    assert old in YAML
    return YAML.replace(old, new, 1)


def written(folder: Path, text: str) -> Path:
    """A file with the text."""
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("whole", [PLAN, NO_PLAN], ids=["plan", "no plan"])
def test_a_plan_reads_back_equal(whole: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(whole, path, tmp_path)
    assert read_plan(path) == whole
    assert plan_to_yaml(read_plan(path)) == path.read_text(encoding="utf-8")
    path.write_text(plan_to_json(whole), encoding="utf-8")
    assert read_plan(path) == whole


@pytest.mark.parametrize("seed", range(4))
def test_real_plans_read_back_equal(seed: int, tmp_path: Path) -> None:
    write_tables(tmp_path)
    found = plan(random_spec(seed), tmp_path)
    path = tmp_path / "plan.yaml"
    write_plan(found, path, tmp_path)
    assert read_plan(path) == found


@pytest.mark.parametrize(
    "name",
    [
        "null",
        "on",
        "1e5",
        "010",
        "1.0",
        "0x1f",
        "2024-01-01",
        "12:30:00",
        "~",
        "- a",
        "a: b",
        "#",
        "é中",
        " \t ",
        "'\"\\",
    ],
)
def test_names_that_yaml_would_read_as_something_else_stay_names(name: str, tmp_path: Path) -> None:
    named = changed(name=name, unmet={name: 1.5}, assumptions=(name,), spec={"name": name, name: [name]})
    path = tmp_path / "plan.yaml"
    write_plan(named, path, tmp_path)
    assert read_plan(path) == named


def test_control_characters_are_escaped_in_the_file_and_read_back(tmp_path: Path) -> None:
    name = "a\x1b[31m\x07\r\n\x7f\x85\u2028b"
    named = changed(name=name, assumptions=(name,))
    path = tmp_path / "plan.yaml"
    write_plan(named, path, tmp_path)
    assert b"\x1b" not in path.read_bytes() and b"\x07" not in path.read_bytes()
    assert read_plan(path) == named


def test_timings_are_in_the_json_and_never_in_the_file() -> None:
    timed = changed(wall_s={"solve": 1.25})
    assert json.loads(plan_to_json(timed))["wall_s"] == {"solve": 1.25}
    assert "wall_s" not in yaml.safe_load(plan_to_yaml(timed))
    assert plan_to_yaml(timed) == YAML


def test_lines_of_the_file_are_short_where_words_can_break() -> None:
    long = changed(assumptions=("a sentence of several words " * 20,))
    assert max(len(line) for line in plan_to_yaml(long).splitlines()) <= 110


def test_files_that_the_spec_names_are_found_from_the_plans_own_folder(tmp_path: Path) -> None:
    specs, plans = tmp_path / "specs", tmp_path / "plans" / "today"
    specs.mkdir()
    plans.mkdir(parents=True)
    write_tables(specs)
    models = [{"name": "ranker", "latency_table": "ranker.csv"}]
    rank = {"name": "rank", "model": "ranker", "traffic": {"rate_rps": 5.0}, "slo": {"e2e_ms": 500, "attainment": 0.9}}
    found = plan(spec(models=models, workloads=[rank]), specs)
    assert found.groups
    write_plan(found, plans / "plan.yaml", specs)
    moved = spec_from_plan(read_plan(plans / "plan.yaml").spec, plans)
    assert moved.spec.models[0].latency_table == "../../specs/ranker.csv"
    assert moved.path("../../specs/ranker.csv").samefile(specs / "ranker.csv")
    assert plan(moved.spec.model_dump(mode="json", exclude_none=True), plans).groups == found.groups


def test_names_of_the_catalogue_are_no_files(tmp_path: Path) -> None:
    found = plan(spec())
    write_plan(found, tmp_path / "plan.yaml", Path())
    assert read_plan(tmp_path / "plan.yaml").spec == found.spec


REFUSED = {
    # name: (text, words of the message)
    "aliases": (YAML + "more: &a [1]\nmost: *a\n", "aliases"),
    "bomb": ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\ntermination: optimal\n", "aliases"),
    "field twice": (replaced("name: by-hand\n", "name: by-hand\nname: other\n"), "line 3: 'name' is given twice"),
    "inner field twice": (YAML + "  name: other\n", "'name' is given twice"),
    "field twice in json": (in_spec('1, "odd": 2'), "given twice"),
    "nan": (replaced("cost_usd_per_hour: 7.2", "cost_usd_per_hour: .nan"), "finite"),
    "infinite": (replaced("cost_usd_per_hour: 7.2", "cost_usd_per_hour: -.inf"), "finite"),
    "nan in the spec": (YAML + "  odd: .nan\n", "finite"),
    "nan in json": (in_spec("NaN"), "finite"),
    "infinity in json": (in_spec("[-Infinity]"), "finite"),
    "overflow in json": (in_spec("1e999"), "finite"),
    "endless number": (in_spec("9" * 5000), "digits"),
    "deep": (YAML + "  odd: " + "[" * 50 + "]" * 50 + "\n", f"deeper than {MOST_DEPTH}"),
    "very deep and cut off": (YAML + "  odd: " + "[" * 200_000, f"deeper than {MOST_DEPTH}"),
    "deep blocks": ("\n".join(" " * depth + "a:" for depth in range(500)), f"deeper than {MOST_DEPTH}"),
    "deep in json": (in_spec("[" * 500 + "]" * 500), f"deeper than {MOST_DEPTH}"),
    "very deep in json": (in_spec("[" * 200_000 + "]" * 200_000), "recursion"),
    "object": (YAML + "  odd: !!python/object/apply:os.system ['true']\n", "constructor"),
    "own tag": (YAML + "  odd: !odd 1\n", "constructor"),
    "bytes": (YAML + "  odd: !!binary aGk=\n", "bytes"),
    "set": (YAML + "  odd: !!set {a, b}\n", "set"),
    "date": (YAML + "  odd: 2024-01-01\n", "date"),
    "key that is a list": (YAML + "  ? [a]\n  : b\n", "unhashable"),
    "key that is a number": (YAML + "  1: b\n", "string"),
    "half a character": (in_spec('"\\ud800"'), "surrogates"),
    "half a character in a key": (in_spec('{"\\ud800": 1}'), "surrogates"),
    "null byte": (YAML + "\0", "control characters"),
    "two documents": (f"{YAML}---\n{YAML}", "single document"),
    "cut off json": (JSON[:-20], "not valid"),
    "empty": ("", "no fields"),
    "a list": ("- 1\n", "no fields"),
    "a word": ("termination\n", "no fields"),
    "unknown field": (YAML + "more: 1\n", "more"),
    "unknown inner field": (replaced("    bought: 4", "    sold: 3\n    bought: 4"), "gpu_counts.cheap.sold"),
    "missing field": (replaced("engine: vllm\n", ""), "engine"),
    "unknown termination": (replaced("termination: optimal", "termination: done"), "termination"),
    "other version": (replaced("version: 1", "version: 2"), "version"),
    "route to nowhere": (replaced("group: g0", "group: g9"), "chat is routed to g9, which is no group"),
    "routes of nobody": (replaced("  chat:\n  - group", "  talk:\n  - group"), "routes of talk"),
    "group in no pool": (replaced("pool: fast", "pool: slow"), "group g2 stands in slow"),
    "two groups of one id": (replaced("- id: g1", "- id: g0"), "two groups have one id"),
    "groups for nothing": (replaced("cost_usd_per_hour: 7.2", "cost_usd_per_hour: null"), "no cost_usd_per_hour"),
    "engine that runs nothing": (replaced("max_num_seqs: 64", "max_num_seqs: 0"), "max_num_seqs"),
    "limit of zero": (replaced("ttft_ms: 800.0", "ttft_ms: 0.0"), "workloads.chat.slo.ttft_ms"),
    "weight above one": (replaced("weight_fraction: 0.3", "weight_fraction: 1.3"), "routes.chat.0.weight_fraction"),
    "half a GPU": (replaced("bought: 4", "bought: 4.5"), "gpu_counts.cheap.bought"),
    "a spec": (SMALL, "is this a spec? plan it first"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_no_plan_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    text, words = REFUSED[name]
    path = written(tmp_path, text)
    with pytest.raises(PlanFileError) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and words in message, message
    assert "\n" not in message and len(message) < 500 + len(str(path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("größe: 1".encode("latin-1"))
    for path, words in (
        (huge, "larger than 50 MB"),
        (latin, "not valid"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none.yaml", "cannot be read: No such file"),
    ):
        with pytest.raises(PlanFileError, match=words) as caught:
            read_plan(path)
        assert str(caught.value).startswith(str(path))


def test_a_plan_is_told_from_a_spec_by_its_beginning(tmp_path: Path) -> None:
    for text, expected in ((YAML, True), (JSON, True), (json.dumps({"a": 1}), False), (SMALL, False), ("", False)):
        assert looks_like_plan(written(tmp_path, text)) is expected
    with pytest.raises(PlanFileError, match="cannot be read"):
        looks_like_plan(tmp_path / "none.yaml")
