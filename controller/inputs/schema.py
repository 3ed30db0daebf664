"""JSON Schemas of the input files, for editors and for programs that write such files.

Rules that a schema cannot express (shares sum to 1, names differ) are checked on reading.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str, model: type[BaseModel] | TypeAdapter[Any]) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file that is read with ``model``."""
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    schema = _closed(adapter.json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": f"edgelm {kind}"}


def _closed(part: Any) -> Any:
    """Return the schema with names that match no pattern refused, as on reading; pydantic's schema
    allows them."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(item) for key, item in part.items() if key != "propertyNames"}
    if "patternProperties" in closed and part.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
