"""The LM pods of one node on a cluster: PodRuntime over the API.

Commands are carried out by one task per LM, which compares what is wanted with what the watch
knows. So a call that was lost, an API that is away and a pod that somebody else deletes are the
same to it: it looks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from controller.domain.errors import EdgelmError, InputError, Permanent, Transient
from controller.testbed.kubernetes.access import (
    MERGE,
    Call,
    ClusterApi,
    Conflict,
    Document,
    Missing,
)
from controller.testbed.kubernetes.pod import (
    GPUS,
    GRACE_MARGIN_S,
    NODE,
    RUN,
    START,
    WAITS,
    GpusOfPods,
    Owner,
    PodMaker,
    PodStatus,
    PodValues,
    never_fits,
    resources,
    start_in,
    status_of,
)
from controller.testbed.kubernetes.resize import can_resize, resize
from controller.testbed.kubernetes.runs import find_owner
from controller.testbed.kubernetes.watching import Watched
from controller.testbed.node.pods import Resize, Start
from controller.testbed.node.runtime import PodNews, RunOnNode

RETRY_S: Final = 1.0
GPUS_S: Final = 5.0  # between looks at the GPUs
REFUSED_RETRY_S: Final = 5.0
LOOK_S: Final = 1.0  # at a pod that ends, without news of it
MOST_BACKOFF_S: Final = 30.0  # of pods that fail again and again
CLOSE_S: Final = 5.0
DELETE_AGAIN_S: Final = 3.0  # a deletion of which nothing is seen: it met another change
OWNER_S: Final = 10.0  # for which the run's object is taken to be there
COMPONENT: Final = "edgelm-node"

log = logging.getLogger("edgelm.node")


@dataclass
class Kept:
    """The pod of one LM, as its task keeps it."""

    name: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    url: str | None = None
    waiting: bool = False  # the listener was told so
    never: str = ""  # why it can never fit
    reason: str = ""
    failures: int = 0  # in a row
    deleted_uid: str = ""  # of the pod whose deletion was asked for
    ends_since_s: float | None = None
    task: asyncio.Task[None] | None = None
    resizing: asyncio.Task[None] | None = None


class ClusterPods:
    """The LM pods of one node.

    Raises:
        InputError: no image is given for an engine.
    """

    def __init__(self, run: RunOnNode, api: ClusterApi, values: PodValues) -> None:
        self._run, self._api, self._values = run, api, values
        self._names = run.scenario.testbed.lm_names
        self._maker = PodMaker(
            run.scenario, run.row, run.run_id, run.speed, run.folder, values
        )  # fmt: skip
        self._kept = [Kept(self._maker.name_of(lm)) for lm in range(len(self._names))]
        self._by_name = {kept.name: kept for kept in self._kept}
        self._selector = f"{RUN}={run.run_id},{NODE}={self._maker.node}"
        self._watched = Watched(
            api,
            Call("list", "pods", values.namespace),
            {"labelSelector": self._selector},
            self._changed,
        )
        self._watching: asyncio.Task[None] | None = None
        self._seeing: asyncio.Task[None] | None = None
        self._seen_gpus: GpusOfPods = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._can_resize: bool | None = None
        self._owner: tuple[Owner, float] | None = None  # and when it was seen
        self._tau_s = run.scenario.tau_s / run.speed  # real seconds
        self.forced = 0  # pods that were deleted by force

    # PodRuntime

    async def prepare(self) -> dict[int, Start]:
        """Return the pods that a former process left running.

        Raises:
            Permanent: the cluster refuses.
        """
        while True:
            try:
                await self._watched.list()
                break
            except Transient as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_S)
        self._watching = asyncio.create_task(self._watched.run())
        if self._values.gpus_of_pods is not None:
            self._seeing = asyncio.create_task(self._see_gpus(self._values.gpus_of_pods))
        with contextlib.suppress(EdgelmError):  # asked again when it is needed
            await self._find_owner()
        found = {}
        for pod in list(self._watched.objects.values()):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                status, start = status_of(pod), start_in(pod)
                if not status.ends and not status.failed:
                    found[start.lm] = start
        return found

    def adopt(self, start: Start) -> None:
        self._keep(start.lm, self._follow(start))

    def start(self, start: Start) -> None:
        self._keep(start.lm, self._create_and_follow(start))

    def stop(self, lm: int) -> None:
        kept = self._kept[lm]
        kept.stopping, kept.url = True, None
        if kept.resizing is not None:
            kept.resizing.cancel()
        kept.news.set()

    def resize(self, resize: Resize) -> None:
        kept = self._kept[resize.lm]
        kept.resizing = asyncio.create_task(self._resize(resize))

    def url_of(self, lm: str) -> str | None:
        return self._kept[self._names.index(lm)].url

    def reasons(self) -> dict[str, str]:
        pairs = zip(self._names, self._kept, strict=True)
        found = {lm: kept.reason for lm, kept in pairs if kept.reason}
        if self._watched.fault:  # what is known of the pods is old
            found = {lm: found.get(lm, self._watched.fault) for lm in self._names}
        return found

    def gpus_of(self, lm: int, meant: Sequence[int]) -> Sequence[int] | None:
        """Return the GPUs on which a pod is seen: the device plugin has chosen them. An emulated
        engine has those that are meant."""
        if self._values.weights is None:
            return meant
        pod = self._watched.objects.get(self._kept[lm].name)
        seen = None if pod is None else self._seen_gpus.get(pod["metadata"]["uid"])
        return None if seen is None else sorted(seen)

    async def close(self) -> None:
        """End everything. Pods that a cluster does not let us end go with their run's object."""
        tasks = [*self._telling, self._watching, self._seeing]
        tasks += [task for kept in self._kept for task in (kept.task, kept.resizing)]
        for task in filter(None, tasks):
            task.cancel()
        call = Call("deletecollection", "pods", self._values.namespace)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._api.call(call, query={"labelSelector": self._selector})
        except (EdgelmError, TimeoutError) as error:
            log.warning("pods are left to the end of their run: %s", error or "no answer")

    # The task of one LM

    async def _create_and_follow(self, start: Start) -> None:
        kept = self._kept[start.lm]
        try:
            if await self._create(start, kept):
                await self._follow(start)
                return
        except InputError as error:  # an image that is not given, say: nobody can wait for it
            kept.reason = str(error)
            log.error("%s", error)
            await self._until_stopped(kept)
        self._end(start.lm)

    async def _create(self, start: Start, kept: Kept) -> bool:
        """Make the pod, or find it; return False if it is not wanted any more."""
        folder = self._run.folder / "pods" / self._names[start.lm]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._pause(kept, min(2.0**kept.failures - 1, MOST_BACKOFF_S))
        while not kept.stopping:
            try:
                if await self._is_absent(kept):
                    await self._make(start, kept)
                    return True
                await self._pause(kept, LOOK_S)
            except Conflict:
                if await self._has_ours(start, kept):
                    return True
            except Transient as error:
                self._note(kept, str(error))
                await self._pause(kept, RETRY_S)
            except Permanent as error:
                self._note(kept, str(error))
                await self._pause(kept, REFUSED_RETRY_S)
        return False

    async def _make(self, start: Start, kept: Kept) -> None:
        values, folder = self._values, self._run.folder / "pods" / self._names[start.lm]
        owner = await self._find_owner()
        pod = self._maker.make(start, self._run.engine(start, folder), folder, owner)
        self._watched.note(await self._api.call(Call("create", "pods", values.namespace), pod))
        kept.reason = ""

    async def _find_owner(self) -> Owner:
        """Return the run's object, which may have been seen some seconds ago: a pod whose owner has
        gone in between is collected like any other.

        Raises:
            Transient: it is not there.
        """
        now_s = asyncio.get_running_loop().time()
        if self._owner is None or now_s - self._owner[1] > OWNER_S:
            self._owner, namespace = None, self._values.namespace
            found = await find_owner(self._api, namespace, self._run.run_id)
            if found is None:
                raise Transient(
                    f"the run has no object in namespace {namespace}: it is over, or the "
                    "controller runs without --kubernetes"
                )
            self._owner = found, now_s
        return self._owner[0]

    async def _is_absent(self, kept: Kept) -> bool:
        """Return True if no pod of this name is there; end one that is."""
        pod = self._watched.objects.get(kept.name)
        if pod is None:
            return True
        self._note(kept, "a former pod of this name has not ended yet")
        await self._end_pod(kept, pod)
        return False

    async def _has_ours(self, start: Start, kept: Kept) -> bool:
        """Return True if the pod that is there is the one we wanted: an answer of ours was lost."""
        try:
            pod = await self._api.call(Call("get", "pods", self._values.namespace, kept.name))
            self._watched.note(pod)
            return start_in(pod) == start and not status_of(pod).ends
        except (EdgelmError, KeyError, TypeError, ValueError):
            return False

    async def _follow(self, start: Start) -> None:
        """Tell what becomes of a pod, until it is gone."""
        lm, kept = start.lm, self._kept[start.lm]
        while (pod := self._watched.objects.get(kept.name)) is not None:
            kept.news.clear()
            status = status_of(pod)
            if kept.stopping or status.failed or status.ends:
                self._serve_no_more(lm, kept)
                if status.failed:
                    kept.reason = status.failed
                await self._end_pod(kept, pod, asked=kept.stopping or bool(status.failed))
                await self._pause(kept, LOOK_S)
                continue
            self._tell(start, kept, pod, status)
            await kept.news.wait()
        if not kept.stopping:
            log.warning("the pod of %s is gone: %s", self._names[lm], kept.reason or "deleted")
            kept.failures += 1
        self._end(lm)

    def _tell(self, start: Start, kept: Kept, pod: Document, status: PodStatus) -> None:
        """Tell the listener what has changed."""
        lm = start.lm
        if status.waits:
            kept.reason = kept.never or status.waits
            if not kept.waiting:
                kept.waiting, kept.never = True, ""
                self._listen(lm, PodNews.WAITING)
                self._background(self._say_why(start, kept, pod, status.waits))
            return
        if status.placed and kept.waiting:
            kept.waiting = False
            self._listen(lm, PodNews.PLACED)
        kept.reason = status.fault
        if status.url and kept.url is None:
            kept.url, kept.failures = status.url, 0
            self._listen(lm, PodNews.READY)
        elif not status.url:
            self._serve_no_more(lm, kept)

    def _serve_no_more(self, lm: int, kept: Kept) -> None:
        if kept.url is not None:
            kept.url = None
            self._listen(lm, PodNews.LOST)

    async def _end_pod(self, kept: Kept, pod: Document, *, asked: bool = True) -> None:
        """Delete a pod once, and by force when its kubelet has not ended it for too long: after its
        grace and tau, beyond which no request waits for what it holds."""
        uid, now_s = pod["metadata"]["uid"], asyncio.get_running_loop().time()
        status = status_of(pod)
        unheard = not status.ends and now_s - (kept.ends_since_s or now_s) > DELETE_AGAIN_S
        if kept.deleted_uid != uid or unheard:
            if asked and not status.ends:
                await self._delete(kept, uid, 0 if status.failed else None)
            elif not status.ends:
                return
            kept.deleted_uid, kept.ends_since_s = uid, now_s
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30) + GRACE_MARGIN_S
        if kept.ends_since_s is not None and now_s - kept.ends_since_s > grace_s + self._tau_s:
            log.warning("%s did not end within %.0f s and is deleted by force", kept.name,
                        grace_s + self._tau_s)  # fmt: skip
            await self._delete(kept, uid, 0)
            self.forced, kept.ends_since_s = self.forced + 1, now_s

    async def _delete(self, kept: Kept, uid: str, grace_s: int | None) -> None:
        """Delete a pod, as often as it takes to be heard."""
        body: Document = {"preconditions": {"uid": uid}}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        while True:
            try:
                call = Call("delete", "pods", self._values.namespace, kept.name)
                await self._api.call(call, body)
                return
            except (Missing, Conflict):  # gone; or another pod has its name
                return
            except EdgelmError as error:
                self._note(kept, str(error))
                await asyncio.sleep(RETRY_S)

    def _end(self, lm: int) -> None:
        """Tell that a pod is gone, and be ready for the next."""
        kept = self._kept[lm]
        kept.url, kept.waiting, kept.never, kept.ends_since_s = None, False, "", None
        if kept.stopping:
            kept.stopping, kept.reason, kept.failures = False, "", 0
        self._listen(lm, PodNews.GONE)

    # Resize

    async def _resize(self, wanted: Resize) -> None:
        kept, lm = self._kept[wanted.lm], wanted.lm
        pod = self._watched.objects.get(kept.name)
        why = "the pod is gone"
        if pod is not None:
            try:
                if self._can_resize is None:
                    self._can_resize = await can_resize(self._api)
                why = "the cluster has no pods/resize: it is older than 1.33"
                if self._can_resize:
                    why = await resize(self._api, self._watched, pod, wanted.cores, kept.news)
            except EdgelmError as error:
                why = str(error)
        if why:
            log.warning("%s keeps its cores: %s", kept.name, why)
            self._listen(lm, PodNews.NOT_RESIZED)
            return
        start = replace(start_in(pod or {}), cores=wanted.cores)
        # An emulated engine reads its times again; a real one its quota.
        self._run.engine(start, self._run.folder / "pods" / self._names[lm])
        await self._annotate(kept.name, {START: json.dumps(asdict(start))})
        self._listen(lm, PodNews.RESIZED)

    # What people see

    async def _say_why(self, start: Start, kept: Kept, pod: Document, waits: str) -> None:
        """Say on a pod, and in its events, why it is not placed."""
        wanted = resources(start, self._run.scenario.testbed.lms[start.lm])
        try:
            node: Document | None = await self._api.call(
                Call("get", "nodes", name=self._maker.node)
            )
        except Missing:
            node = None
        except EdgelmError as error:
            log.warning("%s", error)
            return
        never = never_fits(wanted, node)
        reason, why = ("NeverFits", never) if never else ("Waits", waits)
        kept.never = f"never fits: {never}" if never else ""
        kept.reason = kept.never or waits
        await self._annotate(kept.name, {WAITS: f"{reason}: {why}"})
        with contextlib.suppress(EdgelmError):
            await self._api.call(
                Call("create", "events", self._values.namespace),
                _event(pod, reason, f"edgelm: {why}"),
            )

    async def _annotate(self, name: str, annotations: dict[str, str]) -> None:
        with contextlib.suppress(EdgelmError):
            call = Call("patch", "pods", self._values.namespace, name)
            await self._api.call(call, {"metadata": {"annotations": annotations}}, kind=MERGE)

    async def _see_gpus(self, look: Callable[[], GpusOfPods]) -> None:
        """Look on which GPUs pods are, time and again, and note on each pod its own."""
        noted: dict[str, str] = {}
        while True:
            try:
                self._seen_gpus = await asyncio.to_thread(look)
            except EdgelmError as error:  # unknown, in place of what was true once
                log.warning("GPUs of pods are not known: %s", error)
                self._seen_gpus = {}
            for name, pod in list(self._watched.objects.items()):
                uid = pod["metadata"]["uid"]
                uuids = ",".join(self._seen_gpus.get(uid, {}).values())
                if uuids and noted.get(uid) != uuids:
                    noted[uid] = uuids
                    await self._annotate(name, {GPUS: uuids})
            await asyncio.sleep(GPUS_S)

    # Parts

    def _keep(self, lm: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_fault)
        self._kept[lm].task = task

    def _changed(self, name: str) -> None:
        if name in self._by_name:
            self._by_name[name].news.set()

    def _listen(self, lm: int, news: PodNews) -> None:
        self._run.listener(lm, news)

    def _note(self, kept: Kept, reason: str) -> None:
        if reason != kept.reason:
            log.warning("%s: %s", kept.name, reason)
        kept.reason = reason

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    @staticmethod
    async def _pause(kept: Kept, seconds: float) -> None:
        """Wait, but no longer than until there is news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await kept.news.wait()
        kept.news.clear()

    @staticmethod
    async def _until_stopped(kept: Kept) -> None:
        while not kept.stopping:
            await kept.news.wait()
            kept.news.clear()


def _tell_fault(task: asyncio.Task[None]) -> None:
    """Log what nobody expected: else a task would end unheard, and its pod hang."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a pod is not kept any more", exc_info=error)


def _event(pod: Document, reason: str, message: str) -> Document:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    meta = pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{secrets.token_hex(8)}"},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": meta["name"],
            "namespace": meta["namespace"], "uid": meta["uid"],
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }  # fmt: skip
