"""Reader of untrusted text into checked objects: YAML, then pydantic, then one kind of error."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from controller.domain.errors import InputError
from controller.files import read_regular
from controller.inputs.fields import NAME_PATTERN, NAME_RULE

T = TypeVar("T")

MAX_BYTES = 8_000_000
MAX_ERRORS = 20
MAX_ITEMS = 1_000_000  # after aliases are followed, so that nine lines cannot fill the memory


class _Loader(yaml.SafeLoader):
    """Safe YAML loader of YAML 1.2's plain values that refuses a mapping with a duplicate key.

    PyYAML itself follows YAML 1.1: 010 would be 8, 1:30 would be 90, ``no`` would be false, a date
    no text.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's name and type): none of YAML 1.1's

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Return a decimal number, or one with the prefix 0o or 0x."""
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"duplicate key {key!r}, first given in line {seen[key]}",
                    key_node.start_mark,
                )
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
# The core schema of YAML 1.2.2, section 10.3.2, and "<<", which YAML 1.1 has besides.
PLAIN_VALUES = (
    (_MERGE, r"^<<$", "<"),
    ("tag:yaml.org,2002:null", r"^(null|Null|NULL|~|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        "-+0123456789.",
    ),
)
for _tag, _pattern, _first in PLAIN_VALUES:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


def read_yaml(path: Path) -> object:
    """Return the file's content: mappings, lists, text, numbers, None.

    Raises:
        InputError: the file cannot be read, is not YAML, or has a duplicate key (names the line).
    """
    source = str(path)
    content = read_regular(path, MAX_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            source, f"is not UTF-8 text: byte {error.start} is wrong", remedy="save it as UTF-8"
        ) from error
    return read_yaml_text(source, text)


def read_yaml_text(source: str, text: str) -> object:
    """Read YAML from a text, as :func:`read_yaml` does from a file."""
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        raise InputError(source, _yaml_problem(error), remedy="correct the YAML") from error
    except yaml.YAMLError as error:
        raise InputError(
            source, f"is no YAML: {_one_line(error)}", remedy="save it as plain UTF-8 text"
        ) from error
    except RecursionError as error:
        raise InputError(
            source,
            "is nested too deeply to be read",
            remedy="no file of edgelm needs more than 12 levels; check its brackets and indents",
        ) from error
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's own constructors stumble over values such as `!!bool x` or a 13th month.
        raise InputError(
            source,
            f"has a value YAML cannot read: {_short(error)}",
            remedy="correct it, or put it in quotes",
        ) from error


def _load(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _expanded_items(node, {})
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded_items(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Return the number of items of a node, aliases expanded.

    Raises:
        ComposerError: MAX_ITEMS or more, or a node contains itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_ITEMS
        children = [
            child for item in node.value for child in (item if isinstance(item, tuple) else (item,))
        ]
        known[id(node)] = 1 + sum(_expanded_items(child, known) for child in children)
    if known[id(node)] >= MAX_ITEMS:
        raise yaml.composer.ComposerError(
            None, None, "too many items behind its aliases", node.start_mark
        )
    return known[id(node)]


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + _one_line(", ".join(filter(None, (error.context, error.problem))) or error)


def parse(
    model: type[T] | TypeAdapter[T],
    source: str,
    data: object,
    names: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Return ``data`` as a ``model``.

    Args:
        names: field at the top -> what errors call it.

    Raises:
        InputError: the data is invalid; names source, field, value and remedy of every error.
    """
    try:
        if isinstance(model, TypeAdapter):
            return model.validate_python(data)
        if isinstance(model, type) and issubclass(model, BaseModel):
            return cast("T", model.model_validate(data))
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        schema = _schema(cast("Hashable", model))
        details = error.errors(include_url=False)
        raise combine(
            source, [_input_error(source, one, schema, names) for one in details]
        ) from error


def combine(source: str, errors: list[InputError]) -> InputError:
    """Return one error that lists all ``errors`` (up to MAX_ERRORS), one a line."""
    if len(errors) == 1:
        return errors[0]
    lines = [str(error).removeprefix(f"{source}: ") for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        lines.append(f"and {len(errors) - MAX_ERRORS} more")
    return InputError(source, "\n  ".join([f"{len(errors)} errors:", *lines]))


def _input_error(
    source: str, detail: ErrorDetails, schema: dict[str, Any], names: Mapping[str, str]
) -> InputError:
    location = detail["loc"]
    place = _schema_at(schema, location)
    problem, remedy = detail["msg"].replace("Input should", "should"), place.get("description", "")
    value: object = detail["input"]
    match detail["type"]:
        case "model_type" | "model_attributes_type" | "dict_type" if not location:
            # Without the value: the file may be another than the user means, and nobody's to show.
            problem, value = "has no fields", None
            remedy = "give a file of fields, NAME: VALUE"
        case "invalid_key":
            problem, value = "has a key that is no text", location[-1]
            remedy = "put the key in quotes"
        case "missing":
            problem, value = "is missing", None
        case "extra_forbidden":
            parent = _schema_at(schema, location[:-1])
            problem, value = "is not a known field", None
            remedy = f"known are {', '.join(parent.get('properties', {})) or 'none'}"
        case "string_pattern_mismatch" if detail.get("ctx", {}).get("pattern") == NAME_PATTERN:
            problem, remedy = "is not a name", NAME_RULE
        case "string_pattern_mismatch" if remedy:
            problem = "is malformed"
        case "value_error":
            problem, value = str(detail.get("ctx", {}).get("error", problem)), None
            remedy = "" if "properties" in place else remedy  # a record's docstring is none
    return InputError(
        source,
        _one_line(problem),
        field=_path(tuple(names.get(str(part), part) for part in location[:1]) + location[1:]),
        value=None if value is None else _Shown(value),
        remedy=remedy,
    )


class _Shown:
    """Value as messages show it: on one line, at most 60 characters."""

    def __init__(self, value: object) -> None:
        self._text = _short(_repr(value))

    def __repr__(self) -> str:
        return self._text


def _repr(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"


def _short(text: object) -> str:
    line = _one_line(text)
    return line if len(line) <= 60 else line[:57] + "..."


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _path(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


@cache
def _schema(model: Hashable) -> dict[str, Any]:
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(cast("Any", model))
    return adapter.json_schema()


def _schema_at(schema: dict[str, Any], location: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the part of a JSON Schema that describes a location; {} if there is none."""
    parts = [schema]
    for step in location:
        options = [option for part in parts for option in _options(schema, part)]
        parts = [child for option in options for child in _children(option, step)][:1]
    return next((option for part in parts for option in _options(schema, part)), {})


def _options(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas that a part may have, references resolved. The part's own fields override
    those of its reference."""
    if "$ref" in part:
        target = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        part = {**target, **{key: item for key, item in part.items() if key != "$ref"}}
    yield part
    for option in (*part.get("anyOf", ()), *part.get("oneOf", ())):
        yield from _options(schema, option)


def _children(part: dict[str, Any], step: int | str) -> list[dict[str, Any]]:
    tagged = part.get("discriminator", {}).get("mapping", {})
    if step in tagged:  # the location of an error names the tag that chose a union's member
        return [{"$ref": tagged[step]}]
    if isinstance(step, int):
        candidates = [part.get("items")]
    else:
        by_pattern = part.get("patternProperties", {})
        candidates = [
            part.get("properties", {}).get(step),
            *(child for pattern, child in by_pattern.items() if re.search(pattern, step)),
            part.get("additionalProperties"),
        ]
    return [child for child in candidates if isinstance(child, dict)]
