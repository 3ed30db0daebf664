"""Files of a campaign's report: which may be served, and as what."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from controller.airflow.campaigns import is_plain

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
OTHER: Final = "application/octet-stream"


def report_file(root: Path, campaign: str, path: str) -> Path | None:
    """Return a file below ``root/CAMPAIGN/report``; None if there is none, or it is elsewhere:
    through ``..``, a link, or a hidden name."""
    if not is_plain(campaign) or not all(map(is_plain, path.split("/"))):
        return None
    try:
        folder = root.resolve() / campaign / "report"
        file = folder / path
        return file if file.resolve() == file and file.is_file() else None
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return None


def content_type(file: Path) -> str:
    return TYPES.get(file.suffix.lower(), OTHER)
