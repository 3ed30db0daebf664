"""The command as its users meet it: a process with arguments, output and an exit code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from controller import __version__, strategies
from controller.inputs.catalog import KINDS, locate, names, read_yaml

COMMANDS = (
    "run", "plan", "check", "compare", "report", "list", "validate", "schema", "bench",
    "calibrate", "history", "profile", "trace", "trace import", "trace merge", "models tiny",
    "models pull", "models check", "live", "controller", "node", "keys", "approve", "status",
    "doctor", "up", "down",
)  # fmt: skip


def edgelm(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=300,
    )


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, controller.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {
        "numpy",
        "numba",
        "polars",
        "pydantic",
        "scipy",
        "matplotlib",
        "yaml",
        "rich",
        "asyncio",
    }
    assert not heavy & set(loaded.stdout.split())


def test_version() -> None:
    done = edgelm("--version")
    assert (done.returncode, done.stdout) == (0, f"edgelm {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = edgelm(*command.split(), "--help")
    assert done.returncode == 0
    assert command == "trace" or f"    edgelm {command}" in done.stdout


def test_help_lists_the_commands_there_are() -> None:
    shown = edgelm("--help").stdout
    listed = re.findall(r"^  ([a-z]+)  ", shown.split("Commands:")[1], re.MULTILINE)
    assert set(listed) >= {command.split()[0] for command in COMMANDS}
    for command in listed:
        assert edgelm(command, "--help").returncode == 0


def test_list_as_json_has_every_shipped_name() -> None:
    listed = json.loads(edgelm("list", "--json").stdout)
    assert list(listed["strategies"]) == list(strategies.STRATEGIES)
    for kind in KINDS:
        assert sorted(listed[kind]) == names(kind)


def test_list_of_one_kind() -> None:
    done = edgelm("list", "testbeds")
    assert done.stdout.startswith("testbeds\n  campus  ")
    assert "strategies" not in done.stdout


@pytest.mark.parametrize(
    ("kind", "name"),
    [("testbed", "paper"), ("profile", "t4"), ("workload", "bursty"), ("campaign", "sensitivity")],
)
def test_schemas_accept_the_shipped_files(kind: str, name: str) -> None:
    schema = json.loads(edgelm("schema", kind).stdout)
    validator = Draft202012Validator(schema)
    content = json.loads(json.dumps(read_yaml(locate(f"{kind}s", name))))
    assert not list(validator.iter_errors(content))
    assert list(validator.iter_errors({"nothing": 1}))


def test_validate_names_every_wrong_file_and_passes_the_right_ones(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nsummary: y\nstrategies: [RF]\nseeds: -3\n")
    done = edgelm("validate", locate("testbeds", "paper"), wrong, locate("campaigns", "smoke"))
    assert done.returncode == 2
    assert done.stdout.count("good") == 2
    assert "wrong.yaml: " in done.stderr
    assert "seeds" in done.stderr


def test_validate_checks_testbeds_with_the_profiles_beside_them() -> None:
    campus, paper = locate("testbeds", "campus"), locate("testbeds", "paper")
    t4 = locate("profiles", "t4")
    assert f"{campus}, {t4}: go together\n" in edgelm("validate", t4, campus).stdout
    done = edgelm("validate", campus, paper, t4)
    assert done.returncode == 2
    assert f"{campus}, {t4}: go together\n" in done.stdout
    assert f"{paper}, {t4}: testbed paper: " in done.stderr
    assert "shipped profiles that fit this testbed: a5000 (--profile a5000)" in done.stderr


BAD = {
    "campaign": (["run", "papper"], r"papper.*paper"),
    "strategy": (
        ["run", "smoke", "--strategy", "RF,XX"],
        r"--strategy\[1\].*XX.*choose one of RR, RL",
    ),
    "strategy in small letters": (
        ["run", "smoke", "--strategy", "rf"],
        r"command line: --strategy\[0\].*'rf'\); did you mean RF\?",
    ),
    "server without a model": (
        ["run", "smoke", "--reasoner", "http://127.0.0.1:9/v1"],
        r"command line: --reasoner\[0\]: .*needs models \(--model NAME\)",
    ),
    "seeds": (["run", "smoke", "--seeds", "0"], r"--seeds.*'0' is no whole number, 1 or more"),
    "epochs": (["run", "smoke", "--epochs", "many"], r"--epochs.*'many' is no whole number"),
    "jobs": (["run", "smoke", "--jobs", "-1"], r"--jobs.*'-1'"),
    "load": (["run", "smoke", "--load", "fast"], r"--load: is no list of numbers.*'fast'.*0\.5"),
    "negative load": (["run", "smoke", "--load", "-1"], r"command line: --load\[0\].*-1"),
    "load nan": (["run", "smoke", "--load", "nan"], r"command line: --load\[0\]"),
    "testbed": (["run", "smoke", "--testbed", "papper"], r"papper.*campus, paper"),
    "profile": (["run", "smoke", "--profile", "t4"], r"testbed paper.*profile t4 has no times"),
    "testbed without its profile": (
        ["run", "smoke", "--testbed", "campus"],
        r"campus\.yaml, .*a5000\.yaml: testbed campus: .*'NVIDIA T4'.*fit .*: t4 \(--profile t4\)",
    ),
    "workload": (["run", "smoke", "--workload", "none.yaml"], r"none\.yaml: does not exist"),
    "report": (["report", "nowhere"], r"campaign"),
    "kind": (["list", "colours"], r"colours.*strategies, testbeds"),
    "schema": (["schema", "colour"], r"colour.*testbed, profile"),
    "importer": (["trace", "import", "gcp", "x", "--out", "y"], r"gcp.*azure, servegen"),
    "trace": (["trace", "import", "azure", "none.csv", "--out", "y"], r"none\.csv"),
    "option": (
        ["trace", "import", "azure", "x", "--out", "y", "--set", "speed=1"],
        r"speed=1.*threshold_tokens",
    ),
    "merge": (["trace", "merge", "none.csv", "--out", "y"], r"none\.csv"),
    "command": (["fly"], r"fly"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case: str, tmp_path: Path) -> None:
    arguments, message = BAD[case]
    done = edgelm(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(message, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_a_foreign_trace_becomes_a_request_file_that_runs(tmp_path: Path) -> None:
    source = tmp_path / "conv.csv"
    rows = [
        f"2023-11-16 18:1{m}:{s:02}.0000000,{100 + s},{20 + m}"
        for m in range(6)
        for s in range(0, 60, 7)
    ]
    source.write_text("\r\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, ""]))
    options = (
        "--set",
        "image_share=0.25",
        "--set",
        "lms=[LM1, LM2]",
        "--set",
        "threshold_tokens=130",
    )
    done = edgelm(
        "trace", "import", "azure", source, "--out", "conv-requests.csv", *options, folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(rf"conv-requests\.csv: {len(rows)} requests over \d+", done.stdout)
    merged = edgelm(
        "trace", "merge", *["conv-requests.csv"] * 2, "--out", "both.csv", folder=tmp_path
    )
    assert f"{2 * len(rows)} requests" in merged.stdout
    (tmp_path / "both.yaml").write_text(
        "name: both\nsummary: x\nprocess: {kind: trace, file: both.csv}\n"
    )
    arguments = (
        "--workload",
        "./both.yaml",
        "--strategy",
        "RF",
        "--seeds",
        1,
        "--no-report",
        "--json",
    )
    run = edgelm("run", "smoke", *arguments, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert (document["done"], document["folder"]) == (1, "results/smoke")
    (requests,) = (tmp_path / "results/smoke/runs").glob("*/summary.json")
    per_lm = json.loads(requests.read_text())["per_lm"]
    assert sum(lm["arrivals"] for lm in per_lm.values()) == 2 * len(rows)


def test_run_prints_a_table_and_the_report(tmp_path: Path) -> None:
    done = edgelm("run", "smoke", "--out", "here", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"RF +0\.\d{4}±0\.\d{4}", done.stdout)
    assert "4 of 4 runs are done, 4 of them now, in here" in done.stdout
    page = re.search(r"report: (.*)", done.stdout)
    assert page
    assert (tmp_path / page[1]).read_text().startswith("<!")
    assert done.stderr.splitlines()[0] == "4 runs"
    again = edgelm("run", "smoke", "--out", "here", "--no-report", folder=tmp_path)
    assert "4 of 4 runs are done, 0 of them now" in again.stdout
    report = edgelm("report", "here", "--json", folder=tmp_path)
    assert json.loads(report.stdout) == {"report": page[1]}


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = edgelm("run", "smoke", "--out", "file/here", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"edgelm: file/here: cannot be written: .*Not a directory.*\n", done.stderr)


def test_the_documented_campaign_is_a_good_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "campaigns.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "example.yaml").write_text(example)
    done = edgelm("validate", "example.yaml", folder=tmp_path)
    assert done.stdout == "example.yaml: good campaign (two-loads: 720 runs)\n", done.stderr
