"""The condition of a testbed: what its services say, and what is wrong with them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from controller import __version__
from controller.domain.errors import Permanent
from controller.domain.testbed import Testbed
from controller.testbed.central.conditions import Condition, Room, differences
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER, Keys

TIMEOUT_S: Final = 5.0
AT_ONCE: Final = 16  # nodes that are asked
CLOCKS_S: Final = 0.5  # by which two machines' clocks may differ
FREE_GB: Final = 5.0  # that a node's disk should have free


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of a check-up. ``remedy``: what to do; "" where all is well."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def read_state(url: str, shown: Mapping[str, str], path: str = "/v1/state") -> dict[str, Any]:
    """Return what a service does now. ``shown``: headers that let in.

    Raises:
        OSError: it does not answer, or lets nobody in.
    """
    request = Request(f"{url}{path}", headers=dict(shown))  # noqa: S310 - the user's URL
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


def read_all(url: str, keys: Keys) -> dict[str, Any]:
    """Return the state of the controller with that of every node that is there, by way of the
    controller: a node's address may be one that only its cluster knows.

    Raises:
        Permanent: the controller does not answer.
    """
    shown = headers(keys, CONTROLLER)
    try:
        found = read_state(url, shown)
    except (OSError, ValueError) as error:
        raise Permanent(
            f"the controller at {url} does not answer: {error}; is `edgelm controller` running "
            "there, and are the keys this testbed's?"
        ) from error

    def node_state(name: str, address: str) -> dict[str, Any]:
        try:
            return {"url": address, **read_state(url, shown, f"/v1/nodes/{name}/state")}
        except (OSError, ValueError) as error:
            return {"url": address, "fault": f"does not answer: {error}", "run": None}

    there = dict(sorted(found["nodes"].items()))
    with ThreadPoolExecutor(AT_ONCE) as pool:  # nodes that do not answer are waited for together
        states = pool.map(node_state, there.keys(), there.values())
        return {**found, "nodes": dict(zip(there, states, strict=True))}


def versions_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what runs -> its version, of all that :func:`read_all` has found."""
    versions = {"this edgelm": __version__, "controller": found["version"]}
    for name, node in found["nodes"].items():
        versions[f"node {name}"] = node.get("version") or "does not answer"
    for name, condition in found["conditions"].items():
        if condition.get("software"):
            versions[f"machine {name}"] = condition["software"]
    return versions


def give_verdict(url: str, keys: Keys, slot: int, *, approved: bool) -> None:
    """Give a person's word on the policy of a slot.

    Raises:
        Permanent: the controller does not answer, or nothing waits for this word.
    """
    shown = {**headers(keys, CONTROLLER), "Content-Type": "application/json"}
    try:
        run = read_state(url, shown)["run"]
        if run is None:
            raise Permanent("no run has the testbed")
        request = Request(  # noqa: S310 - the user's URL
            f"{url}/v1/runs/{run['id']}/approvals/{slot}",
            json.dumps({"approved": approved}).encode(),
            shown,
        )
        with urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return
    except HTTPError as error:
        with error:
            raise Permanent(f"not taken: {error.read().decode(errors='replace')[:300]}") from error
    except (OSError, ValueError) as error:
        raise Permanent(f"the controller at {url} does not answer: {error}") from error


def examine(url: str, keys: Keys, testbed: Testbed | None = None) -> Iterator[Finding]:
    """Yield a line per thing that this machine and a testbed need."""
    yield from _examine_machine()
    yield from examine_services(url, keys, testbed)


def examine_services(url: str, keys: Keys, testbed: Testbed | None = None) -> Iterator[Finding]:
    """Yield a line per thing that a testbed's services need. ``testbed``: what its file promises,
    to be compared with what a cluster offers."""
    began_s = time.time()
    try:
        found = read_all(url, keys)
    except Permanent as error:
        yield Finding("controller", ok=False, found=str(error), remedy="start it, or name its URL")
        return
    yield _version("controller", found["version"])
    yield _clock("controller", found["unix_s"], began_s)
    fault = found["store_fault"]
    yield Finding("controller, store", not fault, fault or "keeps what it is given",
                  "bring it back: what is written meanwhile waits" if fault else "")  # fmt: skip
    there = found["player"]
    yield Finding("player", there, "asks for runs" if there else "has not asked",
                  "" if there else "start `edgelm player --controller URL`")  # fmt: skip
    if not found["nodes"]:
        yield Finding("nodes", ok=False, found="none has asked for orders",
                      remedy="start `edgelm node NAME --controller URL` on each")  # fmt: skip
    ours = set(testbed.node_names if testbed else found["nodes"])
    conditions = {name: one for name, one in found["conditions"].items() if name in ours}
    yield from _examine_machines(conditions, testbed)
    for name, use in found["usage"].items():
        yield Finding(
            f"node {name}, exporters", not use["faults"], "; ".join(use["faults"]) or "answer",
            "start it there, or open its port to the controller" if use["faults"] else "",
        )  # fmt: skip
    for name, node in found["nodes"].items():
        if node["fault"]:
            yield Finding(f"node {name}", ok=False, found=node["fault"],
                          remedy=f"look into the log of the service at {node['url']}")  # fmt: skip
            continue
        yield _version(f"node {name}", node["version"])
        yield _clock(f"node {name}", node["unix_s"], began_s)
        faults = node["weights_faults"]
        if faults is not None:
            yield Finding(f"node {name}, weights", not faults, "; ".join(faults) or "whole",
                          "fetch them again: edgelm models pull" if faults else "")  # fmt: skip
        enough = node["free_gb"] >= FREE_GB
        yield Finding(
            f"node {name}, disk", enough, f"{node['free_gb']:g} GB free",
            "" if enough else f"free space for payloads and results: {FREE_GB:g} GB or more",
        )  # fmt: skip


def _examine_machine() -> Iterator[Finding]:
    there = importlib.util.find_spec("lm_server") is not None
    yield Finding("lm_server", there, "installed" if there else "not installed",
                  "" if there else "install edgelm again")  # fmt: skip
    has_torch = importlib.util.find_spec("torch") is not None
    engines = "with weights too" if has_torch else "emulated ones only: no torch here"
    yield Finding("engines", ok=True, found=engines)
    free_gb = shutil.disk_usage("/").free / 1e9
    yield Finding("disk of this machine", free_gb >= FREE_GB, f"{free_gb:.1f} GB free",
                  "" if free_gb >= FREE_GB else "free some")  # fmt: skip


def _examine_machines(
    found: Mapping[str, Mapping[str, Any]], testbed: Testbed | None
) -> Iterator[Finding]:
    """Yield whether pods can be started on each node of a cluster, and what it can give them."""
    conditions = {
        name: Condition(**{**one, "offered": Room(**one["offered"])}) for name, one in found.items()
    }
    for name, one in conditions.items():
        room = one.offered
        offer = f"{room.cores:g} cores, {room.ram_gb:.3g} GB and {room.vgpus} vGPUs for LMs"
        yield Finding(f"node {name}, machine", one.open, one.reason or offer,
                      "" if one.open else f"kubectl describe node {name}")  # fmt: skip
    if conditions and testbed is not None:
        for lack in differences(testbed, conditions):
            yield Finding("testbed file", ok=False, found=lack,
                          remedy="mend the node, or the file that is planned with")  # fmt: skip


def _version(what: str, version: str) -> Finding:
    same = version == __version__
    remedy = "" if same else f"install {__version__} there, or its version here"
    return Finding(f"{what}, version", same, version, remedy)


def _clock(what: str, unix_s: float, began_s: float) -> Finding:
    """Compare a clock with ours, as closely as the time of the questions allows."""
    ahead_s = max(0.0, unix_s - time.time(), began_s - unix_s)
    good = ahead_s <= CLOCKS_S
    remedy = "" if good else "let both machines keep their time by NTP"
    return Finding(f"{what}, clock", good, f"differs by {ahead_s:.2f} s or less", remedy)
