"""Testbed files: Ansible YAML inventories whose ``edgelm_`` variables describe the testbed.

Group ``control`` has the node of planner and scheduler, group ``workers`` the nodes that serve LMs.
``ansible_*`` variables (addresses, users) belong to Ansible: they are allowed everywhere, not read,
and not part of an experiment's identity.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, model_validator

from controller.domain import testbed as domain
from controller.domain.errors import InputError
from controller.domain.testbed import MAX_GPUS
from controller.inputs.documents import parse
from controller.inputs.fields import (
    Cores,
    Flag,
    Gigabytes,
    Modality,
    Model,
    Name,
    NonNegative,
    Record,
    Sourced,
    Text,
)
from controller.inputs.network import Network

PREFIX = "edgelm_"
_ANSIBLE = "ansible_"


def _add_ansible_pattern(schema: dict[str, Any]) -> None:
    schema["patternProperties"] = {f"^{_ANSIBLE}": {}}


MAX_SLICES: Final = 48  # clients of one GPU's time, as NVIDIA's MPS has at most
MAX_LMS: Final = 64  # every array has a column of each, and an agent reads of each
MAX_NODES: Final = 10_000

RESERVED: Final = frozenset({"centre", "controller", "operator"})  # names of services and files


class Variables(Record):
    """Ansible variables: ours have the prefix ``edgelm_``; ``ansible_*`` ones are ignored."""

    model_config = ConfigDict(
        alias_generator=lambda name: PREFIX + name,
        serialize_by_alias=True,
        json_schema_extra=_add_ansible_pattern,
    )

    @model_validator(mode="before")
    @classmethod
    def _pass_over_ansible(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if not str(k).startswith(_ANSIBLE)}


class Gpus(Record):
    """GPUs of a node, all of one model."""

    model: Model = Field(description="as in the profile, such as NVIDIA A5000")
    count: int = Field(
        strict=True,
        ge=1,
        le=MAX_GPUS,
        description=f"physical GPUs, 1 to {MAX_GPUS}; describe a machine with more as several",
    )
    vram_gb: Gigabytes = Field(description="memory of one physical GPU, 0.001 to 1e6 GB")
    slices: int = Field(
        strict=True,
        ge=1,
        le=MAX_SLICES,
        description="time slices (vGPUs) that one physical GPU is offered as, 1 to "
        f"{MAX_SLICES}: a GPU runs so many processes at once",
    )


class Reserved(Sourced):
    """Cores and RAM that the machine keeps from pods: system, kubelet, daemons."""

    cores: NonNegative
    ram_gb: NonNegative


class Host(Variables):
    """Virtual or bare-metal machine."""

    site: Name = Field(description="nodes of one site are linked by edgelm_network.site")
    cpu: Model = Field(description="as in the profile, such as AMD EPYC 7453")
    cores: Cores = Field(description="of the machine, above 0, at most 4096")
    ram_gb: Gigabytes = Field(description="of the machine, above 0, at most 1e6")
    disk_gb: Gigabytes = Field(
        description="size of the disk that holds container images, above 0, at most 1e6"
    )
    reserved: Reserved = Field(description="cores and ram_gb that are not for pods")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        for name in ("cores", "ram_gb"):
            whole, kept = getattr(self, name), getattr(self.reserved, name)
            if kept >= whole:
                raise ValueError(
                    f"{PREFIX}reserved.{name} is {kept:g} of the machine's {whole:g} and leaves "
                    "nothing for pods; reserve less, or enlarge the machine"
                )
        return self

    @property
    def allocatable_cores(self) -> float:
        """Cores for pods."""
        return self.cores - self.reserved.cores

    @property
    def allocatable_ram_gb(self) -> float:
        """RAM for pods."""
        return self.ram_gb - self.reserved.ram_gb


class Worker(Host):
    """A machine that serves LMs."""

    gpus: Gpus | None = None

    def to_domain(self, name: str) -> domain.Node:
        """Return the domain's node, whose cores and RAM are the allocatable ones."""
        node = domain.Node(
            name, self.site, self.cpu, self.allocatable_cores, self.allocatable_ram_gb
        )
        if self.gpus is None:
            return node
        gpus = self.gpus
        return replace(
            node,
            gpus=gpus.count,
            gpu=gpus.model,
            vram_gb=gpus.vram_gb,
            vgpus_per_gpu=gpus.slices,
        )


class Memory(Sourced):
    """Memory and storage of an LM's pod."""

    ram_gb: Gigabytes = Field(description="memory limit of the pod, above 0, at most 1e6")
    min_ram_gb: NonNegative = Field(description="least memory the pod was seen to run with")
    storage_gb: NonNegative = Field(description="size of the container image and its files")

    @model_validator(mode="after")
    def _runs_within_its_limit(self) -> Self:
        if self.min_ram_gb > self.ram_gb:
            raise ValueError(
                f"min_ram_gb {self.min_ram_gb:g} is above ram_gb {self.ram_gb:g}, the pod's limit, "
                "so that the pod would be killed; raise ram_gb, or correct min_ram_gb"
            )
        return self


class Vram(Sourced):
    """GPU memory budgeted for a pod on a GPU."""

    gb: Gigabytes


class CoresOnGpu(Sourced):
    """Cores that a pod on a GPU needs beside the GPU."""

    cores: NonNegative


class Lm(Record):
    """A large model to be served."""

    name: Name
    title: Text
    model: Model = Field(description="repository of the weights")
    modality: Modality
    gpu_only: Flag = Field(default=False, description="true: never runs on CPUs alone")
    memory: Memory
    vram: Vram
    cores_on_gpu: CoresOnGpu

    def to_domain(self) -> domain.Lm:
        """Return the domain's LM."""
        return domain.Lm(
            name=self.name,
            title=self.title,
            model=self.model,
            modality=self.modality,
            ram_gb=self.memory.ram_gb,
            vram_gb=self.vram.gb,
            gpu_only=self.gpu_only,
            cores_on_gpu=self.cores_on_gpu.cores,
        )


class TestbedVars(Variables):
    """Variables of the whole testbed."""

    testbed: Name
    summary: Text
    network: Network
    lms: Annotated[tuple[Lm, ...], Field(min_length=1, max_length=MAX_LMS)]

    @model_validator(mode="after")
    def _lms_differ(self) -> Self:
        counts = Counter(lm.name for lm in self.lms)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"LM names must differ, but {', '.join(twice)} occurs more than once")
        return self


class ControlGroup(Record):
    """Host of planner and scheduler."""

    hosts: Annotated[dict[Name, Host], Field(min_length=1, max_length=1)]


class WorkerGroup(Record):
    """Hosts of deployers and LMs."""

    hosts: Annotated[dict[Name, Worker], Field(min_length=1, max_length=MAX_NODES)]


class Children(Record):
    """The inventory's groups."""

    control: ControlGroup
    workers: WorkerGroup

    @model_validator(mode="after")
    def _hosts_differ(self) -> Self:
        for name in RESERVED & self.workers.hosts.keys():
            raise ValueError(f"a worker cannot be called {name}: services use this name; rename it")
        twice = sorted(self.control.hosts.keys() & self.workers.hosts.keys())
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is in group control and in group workers; a host takes one "
                "part"
            )
        return self


class Inventory(Record):
    """Ansible's group of all hosts."""

    vars: TestbedVars
    children: Children


class TestbedFile(Record):
    """An Ansible inventory that describes a testbed."""

    __test__ = False  # the name is the file's, not pytest's

    all: Inventory

    @property
    def name(self) -> str:
        return self.all.vars.testbed

    def to_domain(self, *, with_control: bool = False) -> domain.Testbed:
        """Return the workers in natural order of their names (vm2 before vm10), LMs in the file's
        order. ``with_control``: the control node comes last, as an origin of requests that has
        nothing for pods."""
        workers, control = self.all.children.workers.hosts, self.all.children.control.hosts
        nodes = [workers[name].to_domain(name) for name in sorted(workers, key=_natural)]
        if with_control:
            ((name, host),) = control.items()
            nodes.append(domain.Node(name, host.site, host.cpu, cores=0.0, ram_gb=0.0))
        return domain.Testbed(
            name=self.name,
            nodes=tuple(nodes),
            lms=tuple(lm.to_domain() for lm in self.all.vars.lms),
            network=self.all.vars.network.to_domain(),
        )


def scaled(testbed: TestbedFile, nodes: int) -> TestbedFile:
    """Return the testbed with its workers repeated in turn up to ``nodes`` workers.

    Copies stay at their worker's site: vm2, vm2-1, vm2-2, ...

    Raises:
        InputError: ``nodes`` is below 1, or a copy's name is taken.
    """
    source = f"testbed {testbed.name}, scaled"
    if nodes < 1:
        raise InputError(source, "needs a worker", field="nodes", value=nodes, remedy="1 or more")
    document = testbed.model_dump(mode="json")
    workers = testbed.all.children.workers.hosts
    names = sorted(workers, key=_natural)
    hosts: dict[str, object] = {}
    for k in range(nodes):
        copy, n = divmod(k, len(names))
        name = f"{names[n]}-{copy}" if copy else names[n]
        if name in hosts or (copy and name in workers):
            raise InputError(source, "is the name of a worker and of a copy", field=name)
        hosts[name] = workers[names[n]].model_dump(mode="json")
    document["all"]["children"]["workers"]["hosts"] = hosts
    document["all"]["vars"]["edgelm_testbed"] += f"-{nodes}"
    document["all"]["vars"]["edgelm_summary"] += f" Workers repeated to {nodes}."
    return parse(TestbedFile, source, document)


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
