from pathlib import Path

import pytest

from controller.report import write_report
from tests.samples.sample_campaign import Sample, write_sample

SAMPLE = Sample(
    strategies=("RR", "RL", "LL", "SOLVER"),
    seeds=(0, 1, 2),
    epochs=3,
    loads=(0.5, 1.0, 1.5),
    failed=[("RR", 2)],
    pending=[("LL", 1)],
)


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign over three loads with a failed and a pending run each, and its report."""
    folder = write_sample(tmp_path_factory.mktemp("campaign"), SAMPLE)
    write_report(folder)
    return folder
