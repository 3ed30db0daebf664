"""A trial by traffic of whether a cluster's network enforces NetworkPolicies.

Networks such as flannel and the bridge plugin take policies and enforce none. Objects look the same
there; only traffic tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from controller.domain.errors import EdgelmError
from controller.testbed.kubernetes.access import Call, ClusterApi, Document
from controller.testbed.kubernetes.pod import status_of
from controller.testbed.kubernetes.templates import object_templates
from controller.testbed.kubernetes.views import EnforcementView

LOOK_S: Final = 0.5
START_S: Final = 120.0  # in which both pods must run: an image may have to be pulled
CHANGE_S: Final = 30.0  # in which a policy, or its deletion, must be felt
POLICIES: Final = "networking.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Outcome of a trial. ``remedy``: what to do; "" where policies hold."""

    holds: bool
    found: str
    remedy: str = ""


async def try_policies(
    api: ClusterApi,
    image: str,
    templates: Path,
    start_s: float = START_S,
    change_s: float = CHANGE_S,
) -> Enforcement:
    """Return whether policies hold: a pod reaches another, not while a policy forbids it, and again
    after the policy is deleted. All of it is in a namespace of its own, which is deleted.

    Args:
        image: one with Python, such as that of the services.
        templates: the folder templates/k8s.
        start_s, change_s: patience with starting pods and with a change of policies.

    Raises:
        Permanent, Transient: the cluster refuses, or does not answer.
    """
    namespace = f"edgelm-enforcement-{secrets.token_hex(4)}"
    environment = object_templates(templates)

    def objects(server: str = "") -> list[Document]:
        view = EnforcementView(namespace, image, server)
        text = environment.get_template("enforcement.yaml.j2").render(view=view)
        return [one for one in yaml.safe_load_all(text) if one]

    async with _namespace(api, namespace, objects()[0]):
        await _account(api, namespace, change_s)
        await api.call(Call("create", "pods", namespace), objects()[1])
        server = await _until(api, namespace, "server", True, start_s)
        if server is None:
            why = await _why(api, namespace, "server")
            return Enforcement(False, f"not tried: no pod of {image} starts ({why})",
                               "name an image that the cluster can pull")  # fmt: skip
        _, _, client, policy = objects(server)
        await api.call(Call("create", "pods", namespace), client)
        if await _until(api, namespace, "client", True, start_s) is None:
            return Enforcement(False, "pods do not reach each other, with no policy between them",
                               "mend the cluster's network (CNI) first")  # fmt: skip
        await api.call(Call("create", "networkpolicies", namespace, group=POLICIES), policy)
        if await _until(api, namespace, "client", False, change_s) is None:
            return Enforcement(
                False, f"nobody enforces them: traffic that one forbids passes for {change_s:g} s",
                "install a network that does, such as Calico, or close ports by other means",
            )  # fmt: skip
        name = policy["metadata"]["name"]
        await api.call(Call("delete", "networkpolicies", namespace, name, POLICIES))
        if await _until(api, namespace, "client", True, change_s) is None:
            return Enforcement(False, "traffic stays refused after its policy is deleted",
                               "look into the log of the cluster's network (CNI)")  # fmt: skip
    return Enforcement(True, "enforced: refused with a policy, allowed after it was deleted")


@contextlib.asynccontextmanager
async def _namespace(api: ClusterApi, name: str, document: Document) -> AsyncIterator[None]:
    """Make a namespace for as long as the block lasts."""
    await api.call(Call("create", "namespaces"), document)
    try:
        yield
    finally:
        # A trial that is broken off leaves nothing either.
        await asyncio.shield(asyncio.create_task(_delete(api, name)))


async def _delete(api: ClusterApi, name: str) -> None:
    with contextlib.suppress(EdgelmError):
        await api.call(Call("delete", "namespaces", name=name))


async def _account(api: ClusterApi, namespace: str, patience_s: float) -> None:
    """Wait for the namespace's account, without which no pod is taken."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not (await api.call(Call("list", "serviceaccounts", namespace)))["items"]:
                await asyncio.sleep(LOOK_S)


async def _until(
    api: ClusterApi, namespace: str, name: str, ready: bool, patience_s: float
) -> str | None:
    """Wait until a pod is ready, or is not; return its address, None if that does not happen."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while True:
                pod = await api.call(Call("get", "pods", namespace, name))
                if bool(status_of(pod).url) == ready:
                    address: str = pod["status"]["podIP"]
                    return address
                await asyncio.sleep(LOOK_S)
    return None


async def _why(api: ClusterApi, namespace: str, name: str) -> str:
    pod: dict[str, Any] = await api.call(Call("get", "pods", namespace, name))
    status = status_of(pod)
    return status.failed or status.waits or status.fault or "no reason known"
