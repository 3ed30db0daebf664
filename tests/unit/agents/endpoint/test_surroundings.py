"""Certificates and proxies of the environment that cannot be used: named, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.domain.errors import InputError
from tests.unit.agents.questions import asked, question


def refusal() -> str:
    """What an endpoint on another machine says before it connects."""
    with pytest.raises(InputError) as caught:
        asked("http://192.0.2.1:8852/v1", question(limit_s=0.1), key="")
    return str(caught.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_file_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/nonexistent/file.pem")
    said = refusal()
    assert said.startswith(f"{name}: cannot be read: No such file or directory")
    assert "'/nonexistent/file.pem'" in said
    assert "unset it" in said


def test_a_certificate_file_without_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("none\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert refusal().startswith("SSL_CERT_FILE: holds no certificates")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ALL_PROXY", "foo://127.0.0.1:9", "has a scheme of proxies that is not known, 'foo'"),
        ("http_proxy", "ftp://127.0.0.1:9", "has a scheme of proxies that is not known, 'ftp'"),
        ("https_proxy", "http://127.0.0.1:port", "is no address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    name: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    said = refusal()
    assert said.startswith(f"{name}: {problem}")
    assert value in said


def test_a_proxys_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "foo://me:secret@127.0.0.1:9")
    said = refusal()
    assert "***@127.0.0.1:9" in said
    assert "secret" not in said
