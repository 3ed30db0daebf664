"""No secret is committed: values of passwords in playbooks and inventories are looked up, or in a
vault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path for folder in ("playbooks", "inventory", "dags", "templates")
    for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"
)  # fmt: skip
YAML = [path for path in FILES if path.suffix in (".yml", ".yaml")]
SECRET = re.compile(r"(password|passwd|passphrase|secret|token|api_key)$", re.IGNORECASE)
KEY = re.compile(r"BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bsk-[A-Za-z0-9]{20,}")


class _Loader(yaml.SafeLoader):
    """Loader that passes over tags it does not know, such as those of a vault."""


_LOADER: Any = _Loader  # PyYAML's classes have no types
_LOADER.add_multi_constructor("!", lambda loader, suffix, node: None)


def plain_secrets(text: str) -> Iterator[str]:
    """Yield the names of secrets that have a value in a YAML file."""

    def walk(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.items():
                looked_up = isinstance(value, str) and "{{" in value
                if isinstance(value, str) and value and not looked_up and SECRET.search(str(key)):
                    yield f"{key}: {value}"
                yield from walk(value)
        elif isinstance(part, list):
            for one in part:
                yield from walk(one)

    for document in yaml.load_all(text, Loader=_Loader):
        yield from walk(document)


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_password_has_a_value(path: Path) -> None:
    assert list(plain_secrets(path.read_text())) == []


def test_no_file_has_a_key() -> None:
    assert [path for path in FILES if KEY.search(path.read_text(errors="replace"))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mongodb_password: hunter2", ["mongodb_password: hunter2"]),
        ("- tasks: [{uri: {url_password: hunter2}}]", ["url_password: hunter2"]),
        ('mongodb_password: \'{{ lookup("env", "X") }}\'', []),
        ("mongodb_password: ''", []),
        ("mongodb_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3161", []),
        ("token_ttl: 10m", []),
    ],
)
def test_the_scan_sees_what_it_looks_for(text: str, found: list[str]) -> None:
    assert list(plain_secrets(text)) == found
