"""Writes the JSON Schemas of spec and plan: `python -m planner.write_schemas`."""

import json
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

from planner.files import atomic_write_text
from planner.plan_file import Plan
from planner.spec import Spec

SCHEMAS: dict[str, type[BaseModel]] = {"spec.schema.json": Spec, "plan.schema.json": Plan}


def schema_text(model: type[BaseModel]) -> str:
    """The JSON Schema of a model as stable text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both schemas beside the package's modules."""
    folder = Path(str(resources.files("planner"))) / "schemas"
    folder.mkdir(exist_ok=True)
    for name, model in SCHEMAS.items():
        atomic_write_text(folder / name, schema_text(model))


if __name__ == "__main__":
    main()
