"""Alert rules and dashboards against Prometheus' own tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from controller.bootstrap.manifests import render_manifests
from controller.inputs.catalog import load_testbed
from controller.inputs.cluster import ClusterFile
from controller.telemetry.names import TABLE, Kind
from controller.testbed.kubernetes.dashboards import dashboards
from tests.unit.telemetry.exporters import free_port

DOCS = Path(__file__).parents[4] / "docs"
CASES = Path(__file__).with_name("alerts.yaml")
INSTALL = "apt-get install prometheus"
FUNCTIONS = {
    "absent", "by", "count", "histogram_quantile", "increase", "le", "max", "or", "rate", "sum",
    "up", "vector",
}  # fmt: skip


@pytest.fixture(scope="module")
def rules() -> str:
    return render_manifests(load_testbed("paper"), ClusterFile())["prometheus/alerts.yaml"]


def promtool(*arguments: str | Path, cwd: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip(f"no promtool: {INSTALL}")
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_not_before(rules: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(rules)
    cases = CASES.read_text().replace("RULES", str(tmp_path / "alerts.yaml"))
    (tmp_path / "cases.yaml").write_text(cases)
    promtool("check", "rules", "alerts.yaml", cwd=tmp_path)
    promtool("test", "rules", "cases.yaml", cwd=tmp_path)


def test_the_cases_try_every_alert(rules: str) -> None:
    names = {rule["alert"] for rule in yaml.safe_load(rules)["groups"][0]["rules"]}
    tried: dict[str, set[bool]] = {name: set() for name in names}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            tried[check["alertname"]].add(bool(check.get("exp_alerts")))
    assert tried == {name: {True, False} for name in names}


def test_the_scrape_configuration_is_prometheus_own(tmp_path: Path) -> None:
    """But for the discovery of pods, which Debian's Prometheus is built without."""
    files = render_manifests(load_testbed("paper"), ClusterFile())
    config = yaml.safe_load(files["prometheus/scrape.yaml"])
    for job in config["scrape_configs"]:
        (found,) = job.pop("kubernetes_sd_configs")
        assert found["role"] == "pod"
    (tmp_path / "scrape.yaml").write_text(yaml.safe_dump(config))
    promtool("check", "config", "--syntax-only", "scrape.yaml", cwd=tmp_path)


def test_each_alert_leads_to_its_runbook(rules: str) -> None:
    page = (DOCS / "kubernetes.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    for rule in yaml.safe_load(rules)["groups"][0]["rules"]:
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert path == "docs/kubernetes.md"
        assert anchor in headings


def expressions() -> list[str]:
    return [
        target["expr"]
        for text in dashboards().values()
        for panel in json.loads(text)["panels"]
        for target in panel["targets"]
    ]


def test_names_in_queries_are_those_of_the_table(rules: str) -> None:
    found = [*expressions(), *(r["expr"] for r in yaml.safe_load(rules)["groups"][0]["rules"])]
    labels = {label for metric in TABLE.values() for label in metric.labels} | {"node"}
    for text in found:
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', "", text)
        for word in re.findall(r"[A-Za-z_]\w*", bare):
            name = word.removesuffix("_bucket")
            assert name in TABLE or word in FUNCTIONS | labels | {"tier", "state"}, (text, word)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped every metric of the table."""
    if shutil.which("prometheus") is None:
        pytest.skip(f"no Prometheus: {INSTALL}")
    folder = tmp_path_factory.mktemp("prometheus")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Everything)
    Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "everything",
                        "static_configs": [
                            {
                                "targets": [f"127.0.0.1:{server.server_port}"],
                                "labels": {"node": "vm3"},
                            }
                        ],
                    }
                ],
            }
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        end_s = time.monotonic() + 30
        while not (found := ask(url, "count_over_time(up[1m]) > 2")):
            assert time.monotonic() < end_s, (folder / "log").read_text()
            time.sleep(0.3)
        assert found
        yield url
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
        server.server_close()


class Everything(BaseHTTPRequestHandler):
    """Target that shows a series of each metric."""

    def do_GET(self) -> None:
        lines = []
        for metric in TABLE.values():
            labels = ",".join(f'{label}="x"' for label in metric.labels)
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            if metric.kind is Kind.HISTOGRAM:
                for bound in (*metric.buckets, "+Inf"):
                    le = ",".join(filter(None, (labels, f'le="{bound}"')))
                    lines.append(f"{metric.name}_bucket{{{le}}} {time.time():.0f}")
                lines += [f"{metric.name}_{part}{{{labels}}} 1" for part in ("sum", "count")]
            else:
                lines.append(f"{metric.name}{{{labels}}} {time.time():.0f}")
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def ask(url: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=5) as answer:  # noqa: S310
            result: list[Any] = json.load(answer)["data"]["result"]
            return result
    except urllib.error.HTTPError as error:
        if error.code == 503:  # it starts
            return []
        raise AssertionError(f"{expression}: {error.read().decode()}") from error
    except urllib.error.URLError:
        return []


def test_every_expression_of_a_dashboard_has_an_answer(prometheus: str) -> None:
    found = expressions()
    assert len(found) > 20
    assert [text for text in found if not ask(prometheus, text)] == []
