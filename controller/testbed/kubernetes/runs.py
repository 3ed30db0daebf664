"""The object that owns a run's pods: with it, the cluster's garbage collector ends them all."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from controller.domain.errors import EdgelmError, Transient
from controller.testbed.kubernetes.access import Call, ClusterApi, Conflict, Document, Missing
from controller.testbed.kubernetes.pod import RUN, Owner

RETRY_S: Final = 1.0
MANAGED: Final = "app.kubernetes.io/managed-by"
PART: Final = "app.kubernetes.io/component"
OURS: Final = {MANAGED: "edgelm", PART: "run"}

log = logging.getLogger("edgelm.kubernetes")


class RunObjects:
    """The runs of a testbed as ConfigMaps of the pods' namespace."""

    def __init__(self, api: ClusterApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace

    async def begin(self, run_id: str) -> None:
        """Make a run's object, or find it; remove those of runs that are over.

        Waits for a cluster that does not answer.

        Raises:
            Permanent: it refuses.
        """
        document: Document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name_of(run_id), "labels": {**OURS, RUN: run_id}},
        }
        while True:
            try:
                await self.sweep(run_id)
                await self._api.call(Call("create", "configmaps", self._namespace), document)
                return
            except Conflict:
                if await find_owner(self._api, self._namespace, run_id) is not None:
                    return
            except Transient as error:
                log.warning("%s", error)
            await asyncio.sleep(RETRY_S)

    async def end(self, run_id: str) -> None:
        """Remove a run's object; its pods follow. A cluster that does not answer keeps it until the
        next run begins."""
        try:
            await self._delete(name_of(run_id))
        except EdgelmError as error:
            log.warning("%s", error)

    async def sweep(self, current: str) -> None:
        """Remove the objects of all runs but the current one.

        Raises:
            EdgelmError: as :meth:`ClusterApi.call`.
        """
        selector = ",".join(f"{key}={value}" for key, value in OURS.items())
        listed = await self._api.call(
            Call("list", "configmaps", self._namespace), query={"labelSelector": selector}
        )
        for one in listed["items"]:
            if one["metadata"]["name"] != name_of(current):
                log.info("removing %s, which is over", one["metadata"]["name"])
                await self._delete(one["metadata"]["name"])

    async def _delete(self, name: str) -> None:
        try:
            call = Call("delete", "configmaps", self._namespace, name)
            await self._api.call(call, {"propagationPolicy": "Background"})
        except Missing:
            return


def name_of(run_id: str) -> str:
    """Return the name of a run's object."""
    return f"run-{run_id.replace('.', '-')}"


async def find_owner(api: ClusterApi, namespace: str, run_id: str) -> Owner | None:
    """Return a run's object, None if it is not there or is going.

    Raises:
        EdgelmError: as :meth:`ClusterApi.call`.
    """
    try:
        found = await api.call(Call("get", "configmaps", namespace, name_of(run_id)))
    except Missing:
        return None
    meta = found["metadata"]
    return None if meta.get("deletionTimestamp") else Owner(meta["name"], meta["uid"])
