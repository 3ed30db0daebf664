"""Shipped and sample files with random damage: each is read, or refused with an InputError.

Quick here; ``EDGELM_MUTATIONS=3000`` tries as many as `make e2e` does.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from controller.campaigns.validation import check_file
from controller.domain.errors import InputError
from controller.inputs.catalog import locate
from controller.inputs.cluster import ClusterFile
from controller.inputs.documents import read_yaml
from controller.testbed.front.users import read_users
from controller.testbed.keys import make_keys, read_keys

MUTATIONS: Final = int(os.environ.get("EDGELM_MUTATIONS", "80"))
VALUES: Final = (
    None, True, 0, -1, 1, 10**30, -(10**30), 1e308, -1e308, 1e-308, float("nan"), float("inf"),
    "", "x" * 5000, "010", "1:30", "\x1b[31m", "=1+1", "[/x]", "$\\frac{$", "../../etc/passwd",
    "/dev/zero", "\u202e", [], {}, [[]], {"": {}}, [None] * 50, "\ud7ff",
)  # fmt: skip
SHIPPED: Final = (
    ("testbeds", "paper"), ("profiles", "a5000"), ("workloads", "paper"), ("campaigns", "smoke"),
)  # fmt: skip


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (no secret)


def places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a document."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, item in items:
        yield part, key
        if isinstance(item, dict | list):
            yield from places(item)


def mutated(document: Any, rng: random.Random) -> Any:
    """Return the document with a value replaced, removed, doubled or renamed."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = list(places(document))
        if not found:
            return document
        container, key = rng.choice(found)
        match rng.randrange(4 if isinstance(container, dict) else 3):
            case 0:
                container[key] = rng.choice(VALUES)
            case 1:
                del container[key]
            case 2 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 2:
                container[key] = [container[key]]
            case _:
                container[rng.choice((1, None, "x", "\x1b[2J", "é"))] = container.pop(key)
    return document


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return the bytes cut, or with a few of them changed, doubled or dropped."""
    cut = bytearray(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.2 else content)
    for _ in range(rng.choice((1, 2, 5))):
        if cut:
            at = rng.randrange(len(cut))
            cut[at : at + rng.randrange(3)] = bytes([rng.randrange(256)] * rng.randrange(3))
    return bytes(cut)


def contents(document: Any, seed: int, count: int) -> Iterator[bytes]:
    rng = seeded(seed)
    plain = yaml.safe_dump(document).encode()
    for _ in range(count):
        if rng.random() < 0.3:
            yield damaged(plain, rng)
        else:
            yield yaml.safe_dump(mutated(document, rng), allow_unicode=True).encode(
                "utf-8", "surrogatepass"
            )


def check_all(
    path: Path, files: Iterator[bytes], read: Callable[[Path], object], most: int
) -> None:
    """Read each content; only an InputError of printable text may refuse it."""
    messages = []
    for content in files:
        path.write_bytes(content)
        try:
            read(path)
        except InputError as error:
            messages.append(str(error).replace("\n", ""))
        except Exception as error:  # the point of the test: name what was read
            pytest.fail(f"{type(error).__name__}: {error} from {content[:3000]!r}")
    assert len(messages) > most // 4
    assert [one for one in messages if not one.isprintable()] == []


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_mutated_files_are_read_or_refused(kind: str, name: str, tmp_path: Path) -> None:
    document = read_yaml(locate(kind, name))
    count = MUTATIONS // 8
    check_all(tmp_path / "mine.yaml", contents(document, 1, count), check_file, count)


def test_mutated_cluster_values_are_read_or_refused(tmp_path: Path) -> None:
    document = ClusterFile().model_dump(mode="json")
    count = MUTATIONS // 4
    check_all(tmp_path / "cluster.yaml", contents(document, 2, count), check_file, count)


def test_mutated_traces_are_read_or_refused(tmp_path: Path) -> None:
    rng = seeded(3)
    rows = "".join(f"{k}.5,LM{1 + k % 4},,{1 + k % 3},{k},,0.25,\n" for k in range(20))
    plain = (
        "# format: edgelm-trace/1\n# duration_s: 40\nborn_s,lm,origin,prompts,input_tokens,"
        f"output_tokens,input_megapixels,output_megapixels\n{rows}"
    ).encode()
    count = MUTATIONS // 4
    files = (damaged(plain, rng) for _ in range(count))
    check_all(tmp_path / "mine.csv", files, check_file, count // 2)


@pytest.mark.parametrize("which", ["keys", "users"])
def test_mutated_secrets_are_read_or_refused_unquoted(which: str, tmp_path: Path) -> None:
    if which == "keys":
        keys = make_keys(["vm2", "vm3"], bytes(32))["vm2"]
        secret = next(iter(keys.tokens.values()))
        document: Any = {
            "name": keys.name, "tokens": dict(keys.tokens), "digests": dict(keys.digests)
        }  # fmt: skip
    else:
        secret = "a" * 64
        document = {"at_once": 4, "users": {"ada": {"key": secret}, "bob": {"key": "b" * 64}}}
    rng = seeded(4)
    plain = json.dumps(document).encode()
    path = tmp_path / "secret.json"
    files = [b"[" * 100_000, b"", b"null", b"\xff\xfe", plain[:-1]]
    for _ in range(MUTATIONS // 4):
        changed = json.dumps(mutated(document, rng)).encode()
        files.append(changed if rng.random() < 0.6 else damaged(plain, rng))
    messages = []
    for content in files:
        path.write_bytes(content)
        try:
            (read_keys if which == "keys" else read_users)(path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > len(files) // 4
    assert secret not in "".join(messages)
