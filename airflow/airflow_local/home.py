"""AIRFLOW_HOME: settings, secrets and the password, in files that only their owner can read.

Settings are in airflow.cfg rather than in the environment, so that ``airflow`` at a terminal with
the same AIRFLOW_HOME sees the same. Variables ``AIRFLOW__SECTION__KEY`` override it, as ever.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

USER: Final = "admin"
HEALTH_S: Final = 30  # a component or task without a sign of life for so long counts as dead
REFRESH_S: Final = 5  # between looks for new and changed DAG files
VISIBLE_S: Final = 15  # from an edit of a DAG file to its sight in the UI, at most
HEADER: Final = "# Written by make airflow at every start; AIRFLOW__SECTION__KEY overrides.\n"

_PASSWORDS: Final = "simple_auth_manager_passwords.json.generated"


class StartError(Exception):
    """Airflow cannot start or run; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """Place of an Airflow, and what it runs.

    ``program`` is the airflow command, ``options`` are values of airflow.cfg by section and key,
    ``environment`` is added to the components' own.
    """

    home: Path
    dags: Path
    program: Path
    port: int
    parallelism: int
    options: Mapping[tuple[str, str], str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password_file(self) -> Path:
        return self.home / _PASSWORDS

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def password(self) -> str:
        return str(json.loads(self.password_file.read_text())[USER])


def make_folders(settings: Settings) -> None:
    """Make the folders of an AIRFLOW_HOME. Raises StartError if it is another Airflow's."""
    config = settings.home / "airflow.cfg"
    if config.exists() and not config.read_text().startswith(HEADER):
        raise StartError(
            f"AIRFLOW_HOME={settings.home}: airflow.cfg there is not by make airflow; "
            "unset AIRFLOW_HOME or name another folder"
        )
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("logs", "plugins", "run"):
        (settings.home / name).mkdir(mode=0o700, exist_ok=True)


def write_settings(settings: Settings) -> bool:
    """Write what the components read: airflow.cfg and, the first time, the password.

    Returns whether the password is new.
    """
    config = settings.home / "airflow.cfg"
    _write_private(config, HEADER + _as_text(_options(settings, _kept_secrets(config))))
    new = not settings.password_file.exists()
    if new:
        _write_private(settings.password_file, json.dumps({USER: secrets.token_urlsafe(15)}) + "\n")
    database = settings.home / "airflow.db"  # SQLite's, which Airflow would make open to all
    database.touch(mode=0o600)
    for path in (settings.password_file, database):
        path.chmod(0o600)
    return new


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a component. Loopback is never asked for through a proxy. Tasks may
    write notes of runs as the user, whose password stays in its file."""
    notes = {
        "conn_type": "http", "host": "127.0.0.1", "port": settings.port, "login": USER,
        "extra": {"password_file": str(settings.password_file)},
    }  # fmt: skip
    result = {
        "AIRFLOW_CONN_EDGELM_AIRFLOW": json.dumps(notes),
        **os.environ,
        **settings.environment,
        "AIRFLOW_HOME": str(settings.home),
    }
    for name in ("NO_PROXY", "no_proxy"):
        result[name] = ",".join(filter(None, [result.get(name), "127.0.0.1", "localhost"]))
    return result


def _options(
    settings: Settings, secret: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    health, refresh = str(HEALTH_S), str(REFRESH_S)
    return {
        ("core", "dags_folder"): str(settings.dags),
        ("core", "plugins_folder"): str(settings.home / "plugins"),
        ("core", "load_examples"): "False",
        ("core", "executor"): "LocalExecutor",
        ("core", "parallelism"): str(settings.parallelism),
        ("core", "dags_are_paused_at_creation"): "False",
        ("core", "hostname_callable"): "socket.gethostname",  # the default asks DNS
        ("core", "execution_api_server_url"): f"{settings.url}/execution/",
        ("core", "min_serialized_dag_update_interval"): "0",
        ("core", "auth_manager"): (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        ("core", "simple_auth_manager_all_admins"): "False",
        ("core", "simple_auth_manager_users"): f"{USER}:admin",
        ("core", "simple_auth_manager_passwords_file"): str(settings.password_file),
        ("api", "host"): "127.0.0.1",
        ("api", "port"): str(settings.port),
        ("api", "base_url"): settings.url,
        ("api", "workers"): "1",
        ("logging", "base_log_folder"): str(settings.logs),
        ("scheduler", "enable_health_check"): "False",  # its server would listen on every interface
        ("scheduler", "scheduler_health_check_threshold"): health,
        ("scheduler", "task_instance_heartbeat_timeout"): health,
        ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): "5",
        ("scheduler", "orphaned_tasks_check_interval"): health,
        ("triggerer", "triggerer_health_check_threshold"): health,
        ("dag_processor", "health_check_threshold"): health,
        ("dag_processor", "refresh_interval"): refresh,
        ("dag_processor", "bundle_refresh_check_interval"): refresh,
        ("dag_processor", "min_file_process_interval"): health,
        **secret,
        **settings.options,
    }


def _kept_secrets(config: Path) -> dict[tuple[str, str], str]:
    """Return the secrets of an earlier start: connections in the database need their key again."""
    parser = configparser.RawConfigParser()
    parser.read(config)
    fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    fresh = {
        ("core", "fernet_key"): fernet,
        ("api", "secret_key"): secrets.token_hex(32),
        ("api_auth", "jwt_secret"): secrets.token_hex(32),
    }
    return {name: parser.get(*name, fallback=value) for name, value in fresh.items()}


def _as_text(options: Mapping[tuple[str, str], str]) -> str:
    lines = []
    for section in dict.fromkeys(section for section, _ in options):
        lines.append(f"\n[{section}]")
        lines += [
            f"{key} = {value.replace('%', '%%')}"
            for (where, key), value in options.items()
            if where == section
        ]
    return "\n".join(lines) + "\n"


def _write_private(path: Path, text: str) -> None:
    """Replace a file by one that has never been readable for others."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
