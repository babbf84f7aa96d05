"""The shipped JSON Schemas are those of the models, and the example fits them."""

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from planner.write_schemas import SCHEMAS, schema_text

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_shipped_schema_is_the_models(name: str) -> None:
    shipped = resources.files("planner").joinpath("schemas", name).read_text(encoding="utf-8")
    assert shipped == schema_text(SCHEMAS[name]), "run python -m planner.write_schemas"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_examples_fit_the_schema(example: Path) -> None:
    schema = json.loads(schema_text(SCHEMAS["spec.schema.json"]))
    jsonschema.validate(yaml.safe_load(example.read_text(encoding="utf-8")), schema)
