"""The smallest JSON that a schema allows: what is replied where the prompt is no agent's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EMPTY: Mapping[str, Any] = {
    "string": "",
    "number": 0,
    "integer": 0,
    "boolean": True,
    "array": [],
    "null": None,
}


def least(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Return a value of ``schema``: required fields only, first choices.

    Raises:
        ValueError: the schema uses something that is not known here.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        return least(root.get("$defs", {})[name], root)
    for words in ("anyOf", "oneOf"):
        if words in schema:
            return least(schema[words][0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: least(fields[name], root) for name in schema.get("required", ())}
    if kind not in _EMPTY or schema.get("minItems") or schema.get("minLength"):
        raise ValueError(f"no reply can be made up for a schema of type {kind!r}")
    return _EMPTY[kind]
