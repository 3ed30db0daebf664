"""A campaign's report: one page without network, its figures and tables as files."""

from __future__ import annotations

from pathlib import Path


def write_report(campaign_dir: Path) -> Path:
    """Write the report of whatever the campaign has finished; returns the page.

    Raises:
        InputError: ``campaign_dir`` is no campaign folder.
        OSError: the report cannot be written.
    """
    from controller.report import page  # heavy: the looks are shared with Airflow's pages

    return page.write_report(campaign_dir)
