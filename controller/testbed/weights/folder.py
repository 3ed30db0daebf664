"""A folder of weights: its manifest with checksums, and what is wrong with it.

FOLDER/edgelm-weights.json    where the files come from, their licence, sizes and SHA-256
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.domain.errors import InputError
from controller.files import replace_file
from controller.testbed.weights.catalog import SOURCES

MANIFEST: Final = "edgelm-weights.json"
INDICES: Final = ("model_index.json", "config.json")  # of a pipeline, of a model
TOKENIZERS: Final = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


class File(BaseModel):
    """Size and digest of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """Origin and files of a folder of weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lm: str
    engine: str  # of the LM server
    origin: str
    revision: str  # "" for what was made here
    licence: str
    files: dict[str, File]

    @property
    def size_mb(self) -> float:
        return sum(one.bytes for one in self.files.values()) / 1e6


def describe(folder: Path, lm: str, *, origin: str, revision: str, licence: str) -> Manifest:
    """Return the manifest of a folder as it is."""
    paths = sorted(_files(folder))
    return Manifest(
        lm=lm,
        engine=SOURCES[lm].engine,
        origin=origin,
        revision=revision,
        licence=licence,
        files={path.relative_to(folder).as_posix(): _file(path) for path in paths},
    )


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder that is complete."""
    replace_file(folder / MANIFEST, f"{manifest.model_dump_json(indent=1)}\n".encode())


def folders_in(path: Path) -> list[Path]:
    """Return a folder of weights itself, or the folders of weights in it; GGUF files need none.

    Raises:
        InputError: no folder, or no weights in it.
    """
    remedy = "edgelm models pull and edgelm models tiny write such folders"
    if not path.is_dir():
        raise InputError(str(path), "there is no such folder", remedy=remedy)
    if _has_weights(path):
        return [path]
    inside = sorted(one for one in path.iterdir() if one.is_dir() and _has_weights(one))
    if not inside and not any(path.glob("*.gguf")):
        wanted = " or ".join((MANIFEST, *INDICES))
        raise InputError(str(path), f"no weights here: there is no {wanted}", remedy=remedy)
    return inside


def check(folder: Path) -> Manifest | None:
    """Check the files of a folder of weights; return its manifest, None if it has none.

    With a manifest, every file is compared with its digest. Without one, what an engine reads
    must be there, and whole.

    Raises:
        InputError: what is missing or damaged, by file.
    """
    manifest = read_manifest(folder)
    found = _against(folder, manifest) if manifest else [*_structure(folder)]
    if found:
        remedy = "copy or fetch the folder again"
        if manifest and manifest.revision:
            remedy = f"fetch it again: edgelm models pull {manifest.lm} --to {folder.parent}"
        raise InputError(str(folder), "; ".join(found), remedy=remedy)
    return manifest


def faults_in(path: Path) -> list[str]:
    """Return what is wrong with the folders of weights in a folder; takes a while for gigabytes."""
    found = []
    for folder in folders_in(path):
        try:
            check(folder)
        except (InputError, OSError) as error:
            found.append(str(error))
    return found


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, None if it has none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            str(path),
            first["msg"],
            field=".".join(map(str, first["loc"])),
            remedy="remove the file to check without checksums, or fetch the folder again",
        ) from None


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (MANIFEST, *INDICES))


def _against(folder: Path, manifest: Manifest) -> list[str]:
    found = []
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != wanted.bytes:
            found.append(f"{name} has {path.stat().st_size} bytes instead of {wanted.bytes}")
        elif _sha256(path) != wanted.sha256:
            found.append(f"{name} is not the file that was sealed (SHA-256 differs)")
    return found


def _structure(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a folder whose digests nobody knows."""
    index = next(name for name in INDICES if (folder / name).is_file())
    try:
        content = json.loads((folder / index).read_bytes())
    except ValueError:
        yield f"{index} is not JSON"
        return
    if not isinstance(content, dict):
        yield f"{index} is not an object"
        return
    parts = _parts(content) if index == "model_index.json" else {"": True}
    for part, has_weights in parts.items():
        inside = folder / part
        if not inside.is_dir():
            yield f"{part}/ is missing"
            continue
        where = f"{part}/" if part else ""
        weights = sorted(inside.glob("*.safetensors"))
        if has_weights and not weights:
            yield f"{where}*.safetensors is missing (pickled weights are not read)"
        if part in ("", "tokenizer") and not any((inside / one).exists() for one in TOKENIZERS):
            yield f"{where}tokenizer.json is missing"
        yield from (f"{where}{one.name} is cut off" for one in weights if not _is_whole(one))


def _parts(index: dict[str, Any]) -> dict[str, bool]:
    """Return the folders of a pipeline, and for each whether it holds weights."""
    named = {
        name: value[1]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)
    }
    without = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "Extractor")
    return {name: not kind.endswith(without) for name, kind in named.items()}


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its head says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            return False
        try:
            head = json.loads(file.read(length))
            ends = [one["data_offsets"][1] for name, one in head.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return False
    return bool(8 + length + max(ends, default=0) == size)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of the weights: no manifest, nothing hidden such as a download's state."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.name != MANIFEST and not any(p[0] == "." for p in name.parts):
            yield path


def _file(path: Path) -> File:
    return File(bytes=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
