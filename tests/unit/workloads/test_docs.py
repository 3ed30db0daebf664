"""The examples of docs/workloads.md are good files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import yaml

from controller.workloads.spec import WorkloadFile, generate
from controller.workloads.trace import parse_trace

PAGE = (Path(__file__).parents[3] / "docs" / "workloads.md").read_text(encoding="utf-8")


def test_the_example_of_a_workload_file(scenario):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    workload = WorkloadFile.model_validate(yaml.safe_load(example))
    requests = generate(workload, scenario, 1000, np.random.default_rng(0))
    by_lm = np.bincount(requests.lm[requests.slot >= 500])
    assert by_lm[2:].min() > 1.8 * by_lm[:2].max()


def test_the_example_of_a_request_file():
    (example,) = re.findall(r"```\n(# format.*?)```", PAGE, re.DOTALL)
    trace = parse_trace(example.encode(), "docs/workloads.md")
    assert trace.prompts.tolist() == [1, 4, 2]
    assert trace.duration_s == 3600


def test_every_kind_and_option_is_described():
    kinds = WorkloadFile.model_json_schema()["properties"]["process"]["discriminator"]["mapping"]
    from inspect import signature

    from controller.workloads.importers import IMPORTERS

    options = {
        name
        for importer in IMPORTERS.values()
        for name, parameter in signature(importer).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for name in {*kinds, *options}:
        assert f"`{name}`" in PAGE
