"""Hosts files: how Ansible reaches machines that exist, by their names in a testbed file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from controller.inputs.documents import parse, read_yaml
from controller.inputs.fields import Name, Record

PREFIX = "ansible_"
SECRET = ("password", "_pass")


class HostsFile(Record):
    """Hosts of a bring-up."""

    hosts: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="machine: its ansible_* variables, such as ansible_host"
    )
    vars: dict[str, Any] = Field(
        default={}, description="ansible_* variables of all machines, such as ansible_user"
    )

    @field_validator("hosts", mode="before")
    @classmethod
    def _may_be_bare(cls, value: object) -> object:
        return {k: v or {} for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _are_ansibles_and_no_secrets(self) -> Self:
        for name, variables in {**self.hosts, "vars": self.vars}.items():
            for key, value in variables.items():
                if not key.startswith(PREFIX):
                    raise ValueError(
                        f"{name}.{key} does not begin with {PREFIX}: machines are described in the "
                        "testbed file, roles' variables belong into -e FILE"
                    )
                plain = isinstance(value, str) and not value.strip().startswith("{{")
                if plain and any(word in key for word in SECRET):
                    raise ValueError(
                        f"{name}.{key} is a password in plain text; set EDGELM_BECOME_PASSWORD, "
                        "or put it into a vault file and give that with -e FILE"
                    )
        return self

    @model_validator(mode="after")
    def _differ(self) -> Self:
        places = Counter(
            (str(one.get("ansible_host", name)), str(one.get("ansible_port", 22)))
            for name, one in self.hosts.items()
        )
        for (host, port), count in places.items():
            if count > 1:
                raise ValueError(
                    f"{host}, port {port}, is {count} machines; each needs an address of its own"
                )
        return self


def load_hosts(path: Path) -> HostsFile:
    """Return a hosts file.

    Raises:
        InputError: it cannot be read, or a value is wrong; names file, field, value and remedy.
    """
    return parse(HostsFile, str(path), read_yaml(path) or {})
