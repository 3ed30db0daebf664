"""Who may talk to a server, and over what."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.lm_server.servers import Server, serving

TOKEN = "0123456789abcdef-canary"  # noqa: S105


def status(server: Server, path: str, authorization: str | None = None) -> int:
    request = urllib.request.Request(server.url + path)  # noqa: S310
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_only_probes_are_open_without_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serving(tmp_path, "--token-file", str(tmp_path / "token")) as server:
        for path in ("/healthz", "/readyz"):
            assert status(server, path) == 200
        for path in ("/metrics", "/openapi.json", "/v1/requests/a", "/", "/healthz/", "//healthz"):
            assert status(server, path) == 401
        for wrong in (
            "",
            TOKEN,
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            "Basic x",
            "Bearer \xff",
        ):
            assert status(server, "/metrics", wrong) == 401
        assert status(server, "/metrics", f"Bearer {TOKEN}") == 200
        assert status(server, "/v1/requests/a", f"Bearer {TOKEN}") == 404
        assert server.submit("a")[0] == 401
        assert server.stop() == 0
    assert TOKEN not in server.log.read_text()
    assert not any(path.is_file() for path in (server.data / "requests").iterdir())


@pytest.mark.parametrize("content", ["", "short", f"{TOKEN}\nsecond", f"{TOKEN}\xe9"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content, encoding="latin-1")
    server = Server(tmp_path)
    with pytest.raises(AssertionError, match="has no token: put 16 or more ASCII") as caught:
        server.start("--token-file", str(tmp_path / "token"))
    assert TOKEN not in str(caught.value)
    assert server.wait() == 2


@pytest.mark.parametrize(
    ("options", "status", "problem"),
    [
        (["--port", "70000"], 2, "--port: 70000 is no port: give 0 to 65535"),
        (["--model", "/nowhere"], 2, "--model: /nowhere is not there"),
        (["--data", "/proc/nowhere"], 1, "--data: .*No such file or directory: '/proc/nowhere"),
        (["--token-file", "/nowhere"], 2, "--token-file: .*No such file or directory"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, options: list[str], status: int, problem: str
) -> None:
    server = Server(tmp_path)
    with pytest.raises(AssertionError, match=problem) as caught:
        server.start(*options)
    assert server.wait() == status
    assert "Traceback" not in str(caught.value)


def test_two_servers_do_not_share_a_folder_or_a_port(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        second = Server(tmp_path)
        with pytest.raises(AssertionError, match=f"another server uses {first.data}: give each"):
            second.start()
        assert second.wait() == 1
        port = first.url.rsplit(":", 1)[1]
        with pytest.raises(AssertionError, match=rf"cannot listen on {port} \(Address already in"):
            second.start("--port", port)
        assert second.wait() == 2
        assert first.submit("a")[0] == 202


def make_certificate(folder: Path) -> list[str]:
    paths = [str(folder / "cert.pem"), str(folder / "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs openssl: apt-get install openssl")
    return ["--tls-cert", paths[0], "--tls-key", paths[1]]


def test_tls_is_spoken_with_the_given_certificate(tmp_path: Path) -> None:
    options = make_certificate(tmp_path)
    server = Server(tmp_path)
    server.start(*options, ready=False)
    try:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=options[1])
        with urllib.request.urlopen(f"{server.url}/healthz", context=context) as answer:  # noqa: S310
            assert "silent_s" in json.load(answer)
        with pytest.raises(OSError, match=r"reset|closed|disconnected"):
            urllib.request.urlopen(server.url.replace("https", "http") + "/healthz")  # noqa: S310
    finally:
        server.kill()


def test_wrong_tls_options_are_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)[1::2]
    for options, problem in (
        (["--tls-cert", certificate], "give both or none"),
        (["--tls-cert", key, "--tls-key", key], "cannot be used"),
        (["--tls-cert", f"{key}.none", "--tls-key", key], "cannot be used"),
    ):
        server = Server(tmp_path)
        with pytest.raises(AssertionError, match=problem):
            server.start(*options)
        assert server.wait() == 2
