"""The pod of one LM: what Kubernetes is asked for, and what its status means."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.domain.state import GPU
from controller.domain.testbed import Lm
from controller.testbed.kubernetes.access import Document, quantity
from controller.testbed.kubernetes.templates import object_templates
from controller.testbed.node.pods import Start

if TYPE_CHECKING:
    from jinja2 import Template

NAMESPACE: Final = "edgelm-lms"
UID: Final = 10001  # of the images' user; the node service runs as the same, so both write files
PORT: Final = 8001
GpusOfPods = Mapping[str, Mapping[int, str]]

GPUS: Final = "edgelm/gpus"  # annotation: UUIDs of the GPUs that the device plugin has chosen
START: Final = "edgelm/start"
RUN: Final = "edgelm/run"
NODE: Final = "edgelm/node"
LM: Final = "edgelm/lm"
WAITS: Final = "edgelm/waits"  # annotation: why the pod is not placed
GPU_RESOURCE: Final = "nvidia.com/gpu"

SHORTEST_GRACE_S: Final = 20  # lm_server's own
GRACE_MARGIN_S: Final = 10  # from the server's own limit to the kubelet's KILL
SHORTEST_STARTUP_S: Final = 300  # weights that come from a cold disk
STARTUP_FACTOR: Final = 5.0  # over the profile's start

# A start waits for it: the one in C takes a tenth of the time.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DATA: Final = "data"
WEIGHTS: Final = "weights"


@dataclass(frozen=True, slots=True)
class Owner:
    """The object of a run that owns its pods."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A part of a volume, at the path where the node service has it."""

    volume: str
    path: str
    part: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class PodValues:
    """Values that differ between clusters.

    Args:
        templates: folder with k8s/pod.yaml.j2.
        images: by engine of lm_server, each by its digest.
        data: the folder that the claim ``edgelm-data-NODE`` holds, as the node service sees it.
        weights: likewise for ``edgelm-weights-NODE``; None where engines are emulated.
        gpus_of_pods: returns the GPUs on which each pod, by uid, is seen, each by its place on
            the node and its UUID; None where nobody looks.
    """

    templates: Path
    images: Mapping[str, str]
    data: Path
    weights: Path | None = None
    namespace: str = NAMESPACE
    runtime_class: str = ""
    gpus_of_pods: Callable[[], GpusOfPods] | None = None


@dataclass(frozen=True, slots=True)
class LmPod:
    """View of templates/k8s/pod.yaml.j2."""

    name: str
    namespace: str
    run_id: str
    node: str
    lm: str
    start: Mapping[str, Any]
    owner: Owner
    image: str
    arguments: Sequence[str]
    resources: Mapping[str, str]
    grace_s: int
    startup_s: int
    mounts: Sequence[Mount]
    claims: Sequence[tuple[str, str]]
    runtime_class: str = ""
    uid: int = UID
    port: int = PORT
    grace_margin_s: int = field(default=GRACE_MARGIN_S)


@dataclass(frozen=True, slots=True)
class PodMaker:
    """Pods of one run on one node."""

    scenario: Scenario
    row: int
    run_id: str
    speed: float
    run_folder: Path
    values: PodValues

    @property
    def node(self) -> str:
        return self.scenario.testbed.nodes[self.row].name

    def name_of(self, lm: int) -> str:
        """Return the name of an LM's pod, one at a time: so that none is there twice."""
        name = _slug(self.scenario.testbed.lms[lm].name)
        return f"{name}-{lm}-{self.node}-{self.run_id.replace('.', '-')}"

    def make(self, start: Start, arguments: Sequence[str], folder: Path, owner: Owner) -> Document:
        """Return the pod for a start.

        Args:
            arguments: of the LM server, as the engine gives them.
            folder: of the LM, where checkpoint and results are.
        """
        lm = self.scenario.testbed.lms[start.lm]
        values, grace_s = self.values, self._grace_s(start)
        view = LmPod(
            name=self.name_of(start.lm),
            namespace=values.namespace,
            run_id=self.run_id,
            node=self.node,
            lm=lm.name,
            start=asdict(start),
            owner=owner,
            image=_image(values.images, _option(arguments, "--engine")),
            arguments=[*arguments, "--data", str(folder), "--grace-s", str(grace_s)],
            resources=resources(start, lm),
            grace_s=grace_s,
            startup_s=self._startup_s(start),
            mounts=self._mounts(Path(_option(arguments, "--model")), folder),
            claims=[(DATA, f"edgelm-data-{self.node}")]
            + ([(WEIGHTS, f"edgelm-weights-{self.node}")] if values.weights else []),
            runtime_class=values.runtime_class if start.mode == GPU else "",
        )
        text = _template(values.templates).render(view=view)
        document: Document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe one
        return document

    def _mounts(self, model: Path, folder: Path) -> list[Mount]:
        """Return the LM's own folder, the run's emulated GPUs, and its weights to read."""
        values = self.values
        mounts = [_mount(DATA, folder, values.data)]
        if values.weights is not None:
            return [*mounts, _mount(WEIGHTS, model, values.weights, read_only=True)]
        return [*mounts, _mount(DATA, self.run_folder / "gpus", values.data)]

    def _grace_s(self, start: Start) -> int:
        """Return the seconds that the longest batch in hand may take, by the profile."""
        node, lm = self.scenario.testbed.nodes[self.row], self.scenario.testbed.lms[start.lm]
        profile = self.scenario.profile.lms[lm.name]
        if start.mode == GPU:
            one_s, batching = profile.gpu[node.gpu].at(1.0), profile.gpu_batching
        else:
            one_s, batching = profile.cpu[node.cpu].at(start.cores), profile.cpu_batching
        longest_s = one_s * max(batching.factors) + profile.stop_s
        return max(SHORTEST_GRACE_S, math.ceil(longest_s / self.speed))

    def _startup_s(self, start: Start) -> int:
        profile = self.scenario.profile.lms[self.scenario.testbed.lms[start.lm].name]
        usual_s = profile.start_gpu_s if start.mode == GPU else profile.start_cpu_s
        return max(SHORTEST_STARTUP_S, math.ceil(STARTUP_FACTOR * usual_s / self.speed))


def resources(start: Start, lm: Lm) -> dict[str, str]:
    """Return a pod's requests, which are its limits; no cores where a GPU is all that it needs."""
    cores = start.cores if start.cores > 0 else lm.cores_on_gpu
    return {
        **({"cpu": cpu(cores)} if cores > 0 else {}),
        "memory": f"{int(lm.ram_gb * 1e9 // 2**20)}Mi",
        **_gpu_request(start.vgpus if start.mode == GPU else 0),
    }


def cpu(cores: float) -> str:
    """Return cores as Kubernetes writes them."""
    return f"{max(1, int(cores * 1000 + 1e-6))}m"


def _gpu_request(vgpus: int) -> dict[str, str]:
    """Return what a pod asks of the GPUs: the one place that would change for another device
    plugin, or for Dynamic Resource Allocation (docs/decisions/011-kubernetes.md)."""
    return {GPU_RESOURCE: str(vgpus)} if vgpus else {}


def _option(arguments: Sequence[str], name: str) -> str:
    """Return an option of a server's arguments."""
    return arguments[list(arguments).index(name) + 1]


# What a pod's status means


@dataclass(frozen=True, slots=True)
class PodStatus:
    """The state of a pod, in what a node needs."""

    placed: bool = False
    url: str = ""  # of a ready one
    waits: str = ""  # why the scheduler does not place it
    failed: str = ""  # why it never comes back
    ends: bool = False  # it is being deleted
    fault: str = ""  # why its container does not run, as far as it is known


def status_of(pod: Document) -> PodStatus:
    """Return what a pod's status says."""
    status = pod.get("status", {})
    known = {one["type"]: one for one in status.get("conditions", [])}
    if status.get("phase") in ("Failed", "Succeeded"):
        # UnexpectedAdmissionError, OutOfcpu, NodeAffinity, Evicted: kubelets never try these again
        # (kubernetes #125579), and restartPolicy Always leaves no other way into these phases.
        why = f"{status.get('reason') or status['phase']}: {status.get('message') or 'no message'}"
        return PodStatus(failed=why, ends=_ends(pod))
    placed = known.get("PodScheduled", {})
    waits = ""
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        waits = placed.get("message", "Unschedulable")
    address = status.get("podIP", "")
    ready = known.get("Ready", {}).get("status") == "True" and bool(address)
    host = f"[{address}]" if ":" in address else address
    return PodStatus(
        placed=bool(pod["spec"].get("nodeName")),
        url=f"http://{host}:{PORT}" if ready else "",
        waits=waits,
        ends=_ends(pod),
        fault=_container_fault(status),
    )


def start_in(pod: Document) -> Start:
    """Return the start that a pod was made for.

    Raises:
        KeyError, TypeError, ValueError: it is not one of ours.
    """
    start = json.loads(pod["metadata"]["annotations"][START])
    return Start(**{**start, "gpus": tuple(start["gpus"])})


def _ends(pod: Document) -> bool:
    return pod["metadata"].get("deletionTimestamp") is not None


def _container_fault(status: Document) -> str:
    for one in status.get("containerStatuses", []):
        waiting = one.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


# What a pod is asked for against what its node has


def never_fits(wanted: Mapping[str, str], node: Document | None) -> str:
    """Return why a node can never take a pod, "" if it only waits for others to go."""
    if node is None:
        return "the cluster has no node of this name"
    offered = node.get("status", {}).get("allocatable", {})
    for name, amount in wanted.items():
        if quantity(amount) > quantity(offered.get(name, "0")) * (1 + 1e-9):
            return f"it asks for {amount} {name}, and the whole node has {offered.get(name, '0')}"
    return ""


# Images


def read_images(path: Path) -> dict[str, str]:
    """Return images by engine from a file as lm_dockerfiles/build-images.sh writes it: a line of
    NAME@sha256:DIGEST for each.

    Raises:
        InputError: it cannot be read, or a line names no image by its digest.
    """
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "--images", f"cannot be read ({error})", value=str(path),
            remedy="give the file that lm_dockerfiles/build-images.sh writes",
        ) from error  # fmt: skip
    images: dict[str, str] = {}
    for line in lines:
        found = re.fullmatch(r"(.*/)?edgelm-(?P<target>[a-z]+)@sha256:[0-9a-f]{64}", line)
        if found is None:
            raise InputError(
                str(path), "is no image of edgelm by its digest", value=line,
                remedy="write REGISTRY/edgelm-TARGET@sha256:DIGEST, as build-images.sh does",
            )  # fmt: skip
        images |= dict.fromkeys(ENGINES_OF.get(found["target"], ()), line)
    return images


ENGINES_OF: Final = {
    "emulated": ("emulated",),
    "llama": ("llama",),
    "lm": ("text-to-text", "image-to-text", "text-to-image"),
}


def _image(images: Mapping[str, str], engine: str) -> str:
    if engine not in images:
        target = next((name for name, all_ in ENGINES_OF.items() if engine in all_), engine)
        given = ", ".join(images) or "none"
        raise InputError(
            "--images", f"names no image for the engine {engine}", value=given,
            remedy=f"add the line of edgelm-{target}",
        )  # fmt: skip
    return images[engine]


# Parts


def _mount(volume: str, path: Path, root: Path, *, read_only: bool = False) -> Mount:
    return Mount(volume, str(path), path.relative_to(root).as_posix(), read_only)


def _slug(name: str) -> str:
    """Return a name as a part of an object's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@cache
def _template(folder: Path) -> Template:
    return object_templates(folder / "k8s").get_template("pod.yaml.j2")
