"""All modalities through the whole path: two nodes, servers with tiny weights, results at origins.

It needs the extra `lm`: `make e2e` installs it and runs this.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from controller.bootstrap.serve import local_testbed
from controller.inputs.catalog import load_profile
from controller.testbed.node.disk import NodeDisk
from tests.live.services import live_experiment, make_run
from tests.live.throughput import last_nodes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="no torch here; run `make e2e`"
)
NODES = 2
SLOT_S = 20.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from controller.testbed.weights.catalog import SOURCES
    from controller.testbed.weights.tiny import build

    folder = tmp_path_factory.mktemp("weights")
    for name in SOURCES:
        build(name, folder / name, seed=0)
    return folder


def test_every_modality_comes_back_as_what_it_is(weights: Path, tmp_path: Path) -> None:
    from PIL import Image

    # Prompts of a size that tiny models and two cores can compute.
    profile: dict[str, Any] = load_profile("a5000").model_dump(by_alias=True)
    for lm in profile["lms"].values():
        sizes = {"output_tokens": 4, "input_tokens": 8}
        sizes |= {"input_megapixels": 0.004, "output_megapixels": 0.0041}
        lm["reference"].update({k: v for k, v in sizes.items() if lm["reference"].get(k)})
    one = live_experiment(
        target="live", testbed=last_nodes(NODES), profile=profile, slot_s=SLOT_S, epoch_slots=6,
        tau_s=200.0, load=0.5, seed=4,
    )  # fmt: skip
    names = one.testbed.to_domain().node_names
    with local_testbed(names, tmp_path, 1.0, weights) as testbed:
        files = make_run(one, tmp_path, testbed)
    table = pl.read_parquet(io.BytesIO(files["requests.parquet"]))
    assert json.loads(files["summary.json"])["target"] == "live"
    done = table.filter("success")
    assert set(done["lm"]) == {"LM1", "LM2", "LM3", "LM4"}, table.select("lm", "failure").rows()
    kinds = {}
    for request in done.iter_rows(named=True):
        disk = NodeDisk(tmp_path / request["origin"] / "runs" / one.run_id / "node.sqlite")
        content = disk.result(request["request_id"])
        disk.close()
        assert content is not None
        results = json.loads(content)["results"]
        assert len(results) == request["prompts"]
        for result in results:
            found = base64.b64decode(result["base64"])
            kinds[request["lm"]] = result["media_type"].partition(";")[0]
            if kinds[request["lm"]] == "image/png":
                assert Image.open(io.BytesIO(found)).size == (64, 64)
            else:
                assert found.decode()
    assert kinds == {
        "LM1": "text/plain", "LM2": "text/plain", "LM3": "text/plain", "LM4": "image/png",
    }  # fmt: skip
