"""A list of objects that is kept fresh: listed, then watched, then listed again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from controller.domain.errors import EdgelmError
from controller.testbed.kubernetes.access import Call, ClusterApi, Document, Expired

# The server ends a watch after this; five seconds later we do, which finds a half-open connection.
WATCH_S: Final = 30
RELIST_S: Final = 300.0
RETRY_S: Final = (0.2, 0.5, 1.0, 2.0)

log = logging.getLogger("edgelm.kubernetes")


class Watched:
    """The objects of one kind that a selector picks, by name.

    Args:
        call: the list.
        query: its selectors.
        changed: told the key of each object that came, changed or went.
        keep: returns what is kept of an object, at least its name, uid and resourceVersion.
        by: field of the metadata that is the key; ``uid`` where names are of several namespaces.
    """

    def __init__(
        self,
        api: ClusterApi,
        call: Call,
        query: Mapping[str, str],
        changed: Callable[[str], None],
        keep: Callable[[Document], Document] = lambda one: one,
        by: str = "name",
    ) -> None:
        self._api, self._call, self._query, self._changed = api, call, dict(query), changed
        self._keep, self._by = keep, by
        self.objects: dict[str, Document] = {}
        self.fault = ""
        self._fresh_s = -float("inf")  # when the server was heard last
        self._listed_s = -float("inf")

    @property
    def age_s(self) -> float:
        """Seconds since the server has last affirmed what is known."""
        return time.monotonic() - self._fresh_s

    def note(self, one: Document) -> None:
        """Take up an object that a call of ours has answered with, before the watch brings it."""
        key = one["metadata"][self._by]
        known = self.objects.get(key)
        if (
            known is None
            or known["metadata"]["uid"] != one["metadata"]["uid"]
            or (_version(known) < _version(one))
        ):
            self.objects[key] = self._keep(one)
            self._changed(key)

    async def run(self) -> None:
        """Keep the list fresh until cancelled; the API's absence is waited for."""
        failures = 0
        while True:
            try:
                version = await self.list()
                failures = 0
                await self._watch(version)
            except Expired:
                continue
            except EdgelmError as error:
                if str(error) != self.fault:
                    log.warning("%s", error)
                self.fault = str(error)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    async def list(self) -> str:
        """List; return the version from which to watch.

        Raises:
            EdgelmError: as :meth:`ClusterApi.call`.
        """
        listed = await self._api.call(self._call, query=self._query)
        version = listed["metadata"]["resourceVersion"]
        self._listed_s = self._heard()
        found = {one["metadata"][self._by]: one for one in listed["items"]}
        for key, known in list(self.objects.items()):
            # One that was made after the list was taken is not gone.
            if key not in found and _version(known) <= int(version):
                self._remove(key)
        for one in found.values():
            self.note(one)
        return str(version)

    async def _watch(self, version: str) -> None:
        """Follow changes until it is time to list again."""
        while time.monotonic() - self._listed_s < RELIST_S:
            query = {**self._query, "resourceVersion": version, "allowWatchBookmarks": "true"}
            watch = Call("watch", self._call.resource, self._call.namespace, group=self._call.group)
            async for event in self._api.watch(watch, query, WATCH_S):
                self._heard()
                one = event["object"]
                version = one["metadata"]["resourceVersion"]
                if event["type"] == "DELETED":
                    known = self.objects.get(one["metadata"][self._by])
                    if known is not None and known["metadata"]["uid"] == one["metadata"]["uid"]:
                        self._remove(one["metadata"][self._by])
                elif event["type"] in ("ADDED", "MODIFIED"):
                    self.note(one)
            self._heard()

    def _remove(self, key: str) -> None:
        del self.objects[key]
        self._changed(key)

    def _heard(self) -> float:
        self.fault = ""
        self._fresh_s = time.monotonic()
        return self._fresh_s


def _version(one: Document) -> int:
    """Return an object's version; they are comparable since Kubernetes 1.35, and were before."""
    return int(one["metadata"]["resourceVersion"])
