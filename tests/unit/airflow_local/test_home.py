"""What the components read is private from its first moment, and keeps its secrets over starts."""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_local.home import Settings, StartError, environment, make_folders, write_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home", dags=tmp_path / "50% dags", program=Path("airflow"),
        port=18080, parallelism=2,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def written(settings: Settings) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(settings.home / "airflow.cfg")
    return parser


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_the_owner_alone(settings: Settings) -> None:
    make_folders(settings)
    assert write_settings(settings)
    assert mode(settings.home) == 0o700
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "airflow.cfg", "airflow.db", settings.password_file.name,
    }  # fmt: skip
    assert {mode(path) for path in files} == {0o600}
    assert len(settings.password()) >= 16


def test_what_was_open_to_others_is_closed(settings: Settings) -> None:
    make_folders(settings)
    settings.home.chmod(0o755)
    settings.password_file.write_text('{"admin": "old"}')
    (settings.home / "airflow.db").touch()
    assert not write_settings(settings)
    assert settings.password() == "old"
    assert mode(settings.password_file) == mode(settings.home / "airflow.db") == 0o600


def test_a_second_start_keeps_secrets_and_password_and_changes_the_rest(settings: Settings) -> None:
    make_folders(settings)
    write_settings(settings)
    first, password = written(settings), settings.password()
    other = replace(settings, port=18081, options={("core", "executor"): "CeleryExecutor"})
    assert not write_settings(other)
    second = written(other)
    for name in (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")):
        assert first.get(*name) == second.get(*name)
        assert len(first.get(*name)) >= 32
    assert settings.password() == password
    assert second.get("api", "port") == "18081"
    assert second.get("core", "executor") == "CeleryExecutor"
    assert second.get("core", "dags_folder").endswith("50% dags")


def test_two_homes_share_no_secret(settings: Settings, tmp_path: Path) -> None:
    other = replace(settings, home=tmp_path / "other")
    for one in (settings, other):
        make_folders(one)
        write_settings(one)
    assert settings.password() != other.password()
    assert written(settings).get("core", "fernet_key") != written(other).get("core", "fernet_key")


def test_nothing_listens_on_other_interfaces_by_our_settings(settings: Settings) -> None:
    make_folders(settings)
    write_settings(settings)
    assert written(settings).get("api", "host") == "127.0.0.1"
    assert not written(settings).getboolean("scheduler", "enable_health_check")
    assert not written(settings).getboolean("core", "simple_auth_manager_all_admins")


def test_the_settings_of_another_airflow_are_left_alone(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "airflow.cfg").write_text("[core]\n")
    with pytest.raises(StartError, match=r"not by make airflow; unset AIRFLOW_HOME"):
        make_folders(settings)
    assert (settings.home / "airflow.cfg").read_text() == "[core]\n"
    assert not (settings.home / "run").exists()


def test_components_see_the_connection_and_reach_loopback_without_a_proxy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EDGELM_DEFAULT", "edgelm://controller:8000")
    monkeypatch.setenv("NO_PROXY", "example.org")
    seen = environment(replace(settings, environment={"EDGELM_COMMAND": "/bin/edgelm"}))
    assert seen["AIRFLOW_CONN_EDGELM_DEFAULT"] == "edgelm://controller:8000"
    assert seen["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert seen["EDGELM_COMMAND"] == "/bin/edgelm"
    assert seen["AIRFLOW_HOME"] == str(settings.home)
