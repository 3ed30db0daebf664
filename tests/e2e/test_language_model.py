"""MA with a real language model behind its agents: Gemma 3 with 270 million parameters, served by
llama-cpp-python's own server, for a few slots on a testbed of two nodes.

Nothing is expected of its decisions. What must hold: the server is understood, every call is
accounted for, and the run ends with valid records whatever the model writes.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from tests.e2e.lms import ROOT, START_S, environment
from tests.e2e.test_llama import ASSEMBLE
from tests.lm_server.servers import wait_for
from tests.unit.agents.servers import closed_port

NODES, LMS = ("vm2", "vm3"), ("LM1", "LM3")
SLOT_S = float(os.environ.get("EDGELM_SLOT_S", "60"))  # as the machine is fast
MOST_TOKENS = 300
CAMPAIGN = {
    "name": "language-model",
    "summary": "A few slots with a small language model.",
    "strategies": ["MA"],
    "testbeds": ["two.yaml"],
    "seeds": 1,
    "epochs": 1,
    "epoch_slots": 1,
    "slot_s": SLOT_S,
    "tau_s": SLOT_S,  # a slot of drain
    "loads": [0.3],
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = environment(".venv-llama", "llama-setup") / "python"
    folder = tmp_path_factory.mktemp("gemma")
    model = folder / "gemma.gguf"
    subprocess.run([python, "-c", ASSEMBLE, model], check=True, capture_output=True)
    port = closed_port()
    command = [
        python, "-m", "llama_cpp.server", "--model", model, "--host", "127.0.0.1",
        "--port", str(port), "--n_ctx", "8192", "--model_alias", "gemma3-270m",
    ]  # fmt: skip
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/v1/models"), START_S)
        yield f"http://127.0.0.1:{port}/v1"
        server.kill()  # it would finish what nobody waits for


def answers(url: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def two_nodes(folder: Path, url: str) -> None:
    """Write a campaign on a part of the paper's testbed: a node without GPU, one with."""
    testbed = yaml.safe_load((ROOT / "inventory" / "paper.yaml").read_text())
    every = testbed["all"]
    every["vars"]["edgelm_testbed"] = "two"
    every["vars"]["edgelm_lms"] = [one for one in every["vars"]["edgelm_lms"] if one["name"] in LMS]
    hosts = every["children"]["workers"]["hosts"]
    every["children"]["workers"]["hosts"] = {name: hosts[name] for name in NODES}
    (folder / "two.yaml").write_text(yaml.safe_dump(testbed))
    models = dict.fromkeys(("planner", "scheduler", "deployer"), "gemma3-270m")
    # A model of this size may write on until its context is full.
    reasoner = {"kind": "url", "url": url, "models": models, "max_tokens": MOST_TOKENS}
    campaign = yaml.safe_dump({**CAMPAIGN, "reasoners": [reasoner]})
    (folder / "campaign.yaml").write_text(campaign)


def test_a_real_language_model_decides_for_a_few_slots(url: str, tmp_path: Path) -> None:
    two_nodes(tmp_path, url)
    command = [
        sys.executable, "-m", "controller.cli", "run", "campaign.yaml", "--jobs", "1",
        "--out", "out",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "asked for json_object with a schema instead of json_schema" in done.stderr
    (run,) = (tmp_path / "out" / "runs").glob("[0-9a-f]*")
    summary = json.loads((run / "summary.json").read_text())
    calls = [
        line
        for line in map(json.loads, (run / "transcript.jsonl").read_text().splitlines())
        if line["kind"] == "call"
    ]
    show(summary, calls)
    answered = [one for one in calls if not one["reply"]["error"]]
    assert answered, "nothing was answered within a slot: set EDGELM_SLOT_S higher"
    for one in answered:
        assert one["tokens_in"] > 100
        assert one["tokens_out"] > 0
        if one["reply"]["finish"] == "stop":
            json.loads(one["reply"]["content"])  # the grammar holds the model to its schema
    for tier, counts in summary["decisions"].items():
        made = Counter(
            line["outcome"]
            for line in map(json.loads, (run / "decisions.jsonl").read_text().splitlines())
            if line["tier"] == tier
        )
        assert {name: counts[name] for name in ("ok", "repaired", "fallback", "late")} == {
            name: made[name] for name in ("ok", "repaired", "fallback", "late")
        }
    assert summary["reasoner"]["is_language_model"]
    assert summary["reasoner"]["notes"]
    assert "Asked otherwise" in (tmp_path / "out" / "report" / "index.html").read_text()
    again = [sys.executable, "-m", "controller.cli", "replay", str(run)]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0


def show(summary: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    """Print what docs/language-model.md tells."""
    for tier, counts in summary["decisions"].items():
        print(tier, json.dumps(counts))  # noqa: T201
    for one in calls:
        where = one["slot"], one["tier"], one["node"], one["round"], one["outcome"]
        tokens = one["tokens_in"], one["tokens_out"]
        said = one["reply"]["content"] or one["reply"]["error"]
        print(*where, f"{one['took_s']:.1f} s", *tokens, said, one.get("detail", ""))  # noqa: T201
    print({name: summary[name] for name in ("objective", "success_rate", "wall_s")})  # noqa: T201
