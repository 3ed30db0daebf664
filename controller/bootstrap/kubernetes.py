"""Wiring of the services that have their LMs' pods on a Kubernetes cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.bootstrap.condition import Finding
from controller.domain.errors import InputError, Permanent, Transient
from controller.inputs.catalog import template_dir
from controller.testbed.central.conditions import Survey
from controller.testbed.central.service import RunOwner
from controller.testbed.node.live_run import Options

if TYPE_CHECKING:
    from controller.telemetry.gpu_accounting import GpuAccounting
    from controller.testbed.kubernetes.access import Call, ClusterApi

log = logging.getLogger("edgelm.kubernetes")

POLICIES: Final = "network policies"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A cluster as the command line gives it.

    Args:
        kubeconfig: None: this is a pod of the cluster.
        images: file with a line of NAME@DIGEST per image; None for the controller, which needs
            none.
        resizes: change the cores of running pods in place.
    """

    namespace: str
    kubeconfig: Path | None
    images: Path | None = None
    runtime_class: str = ""
    resizes: bool = False


@contextlib.asynccontextmanager
async def run_owner(cluster: Kubernetes) -> AsyncIterator[RunOwner]:
    """Yield what owns the pods of the controller's runs.

    Raises:
        InputError: no access to the cluster.
        Permanent: the cluster refuses what the controller needs.
    """
    from controller.testbed.kubernetes.access import Call
    from controller.testbed.kubernetes.runs import RunObjects

    async with _opened(cluster, [Call("list", "configmaps", cluster.namespace)]) as api:
        yield RunObjects(api, cluster.namespace)


@contextlib.asynccontextmanager
async def surveyed(
    cluster: Kubernetes, take: Callable[[Survey], Awaitable[None]]
) -> AsyncIterator[None]:
    """Give ``take`` the conditions of the cluster's nodes, whenever they change, meanwhile.

    Raises:
        InputError: no access to the cluster.
        Permanent: the cluster refuses what is needed.
    """
    from controller.testbed.kubernetes.access import Call
    from controller.testbed.kubernetes.cluster import survey_cluster

    async with _opened(cluster, [Call("list", "nodes"), Call("list", "pods")]) as api:
        surveying = asyncio.create_task(survey_cluster(api, take))
        try:
            yield
        finally:
            surveying.cancel()
            await asyncio.gather(surveying, return_exceptions=True)


@contextlib.asynccontextmanager
async def node_options(
    options: Options,
    cluster: Kubernetes,
    weights: Path | None,
    gpus: GpuAccounting | None = None,
) -> AsyncIterator[Options]:
    """Yield a node's options, with its LMs' pods on the cluster.

    Raises:
        InputError: no access to the cluster, no such node in it, or no images.
        Permanent: the cluster refuses what the node needs.
    """
    from controller.testbed.kubernetes.access import Call, Missing
    from controller.testbed.kubernetes.pod import PodValues, read_images
    from controller.testbed.kubernetes.pods import ClusterPods

    if cluster.images is None:
        raise InputError(
            "edgelm node", "needs the images of the LM servers", field="--images",
            remedy="give the file that lm_dockerfiles/build-images.sh writes",
        )  # fmt: skip
    values = PodValues(
        template_dir(),
        read_images(cluster.images),
        options.data.absolute(),
        weights.absolute() if weights else None,
        cluster.namespace,
        cluster.runtime_class,
        gpus.gpus_of_pods if gpus else None,
    )
    needed = [Call("get", "nodes", name=options.name), Call("list", "pods", cluster.namespace)]
    try:
        async with _opened(cluster, needed) as api:
            yield replace(
                options,
                data=values.data,
                make_runtime=lambda run: ClusterPods(run, api, values),
                resizes=cluster.resizes,
            )
    except Missing as error:
        raise InputError(
            "edgelm node", f"is no node of the cluster ({error})", field="NODE",
            value=options.name, remedy="give a name that `kubectl get nodes` shows",
        ) from error  # fmt: skip


def examine_policies(kubeconfig: Path, image: str) -> Finding:
    """Return whether a cluster's network enforces policies, by traffic between two pods.

    Args:
        image: of the pods, one with Python.

    Raises:
        InputError: no access to the cluster.
    """
    from controller.testbed.kubernetes.access import open_api
    from controller.testbed.kubernetes.enforcement import try_policies

    async def examine() -> Finding:
        api = await open_api(kubeconfig)
        try:
            tried = await try_policies(api, image, template_dir() / "k8s")
        except (Permanent, Transient) as error:
            return Finding(POLICIES, False, str(error), "give a kubeconfig of an administrator")
        finally:
            await api.close()
        return Finding(POLICIES, tried.holds, tried.found, tried.remedy)

    return asyncio.run(examine())


@contextlib.asynccontextmanager
async def _opened(cluster: Kubernetes, needed: list[Call]) -> AsyncIterator[ClusterApi]:
    """Yield the API after trying what will be needed; one that does not answer is waited for later.

    Raises:
        InputError: no such access.
        Permanent: the API refuses.
    """
    from controller.testbed.kubernetes.access import open_api

    api = await open_api(cluster.kubeconfig)
    try:
        for call in needed:
            try:
                await api.call(call, query={"limit": "1"} if call.verb == "list" else None)
            except Transient as error:
                log.warning("%s", error)
        yield api
    finally:
        await api.close()
