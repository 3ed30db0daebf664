"""JSON Schemas of the input files, for editors and for programs that write such files.

What a schema cannot say (shares that sum to 1, names that differ) is still checked on reading.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from controller.domain.errors import InputError
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Kind of file -> its model. Whoever owns a further kind of file adds it here.
MODELS: dict[str, type[BaseModel] | TypeAdapter[Any]] = {
    "testbed": TestbedFile,
    "profile": ProfileFile,
}


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of file.

    Raises:
        InputError: no such kind.
    """
    if kind not in MODELS:
        raise InputError(
            "schema", "is unknown", field="kind", value=kind, remedy=f"choose {', '.join(MODELS)}"
        )
    model = MODELS[kind]
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    schema = _closed(adapter.json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": f"edgelm {kind}"}


def _closed(part: Any) -> Any:
    """Refuse names that match no pattern, as reading does; pydantic leaves them open."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(item) for key, item in part.items() if key != "propertyNames"}
    if "patternProperties" in closed and part.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
