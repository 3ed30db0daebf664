"""Campaign folders with just what Airflow's pages read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

BEGIN_UNIX_S = 1_796_000_000.0


def write_campaign(
    root: Path,
    folder: str,
    objectives: Mapping[str, Sequence[float | str | None]],
    name: str = "paper",
    age: int = 0,
    report: str | None = "<p>report</p>",
) -> Path:
    """Write a campaign: per strategy the objective of each finished run, or a run's state.

    ``age`` counts hours before others.
    """
    home, runs = root / folder, []
    for strategy, values in objectives.items():
        for seed, value in enumerate(values):
            run_id = f"{len(runs):012x}"
            state = value if isinstance(value, str) else "done"
            runs.append({"id": run_id, "state": state, "strategy": strategy, "seed": seed})
            if state == "done":
                (home / "runs" / run_id).mkdir(parents=True)
                text = json.dumps({"objective": value})
                (home / "runs" / run_id / "summary.json").write_text(text)
    home.mkdir(parents=True, exist_ok=True)
    document = {"format": 2, "name": name, "summary": "", "runs": runs}
    (home / "campaign.json").write_text(json.dumps(document))
    if report is not None:
        (home / "report" / "figures").mkdir(parents=True)
        (home / "report" / "index.html").write_text(report)
        (home / "report" / "figures" / "latency.svg").write_text("<svg/>")
    when = BEGIN_UNIX_S - 3600 * age
    for path in (home / "campaign.json", home / "runs"):
        if path.exists():
            os.utime(path, (when, when))
    return home
