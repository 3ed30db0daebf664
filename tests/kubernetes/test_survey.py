"""Nodes of a real API server as the controller sees them, while they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.testbed.central.conditions import Survey
from controller.testbed.kubernetes.access import open_api
from controller.testbed.kubernetes.cluster import survey_cluster
from tests.kubernetes.cluster import ControlPlane, control_plane, fake_node
from tests.waiting import waits

PATIENCE_S = 90.0


class Surveyor:
    """The newest survey, and a way to wait for one."""

    def __init__(self) -> None:
        self.newest = Survey(0.0, {})
        self._came = asyncio.Condition()

    async def take(self, survey: Survey) -> None:
        self.newest = survey
        async with self._came:
            self._came.notify_all()

    async def until(self, seen: Callable[[Survey], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: seen(self.newest))


def daemon(node: str, cpu: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"daemon-{node}", "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "it", "image": "nothing", "resources": {"requests": {"cpu": cpu}}}
            ],
        },
    }


def test_a_survey_follows_cordon_daemon_deletion_and_return(plane: ControlPlane) -> None:
    async def run() -> None:
        api, surveyor = await open_api(plane.kubeconfig), Surveyor()
        surveying = asyncio.create_task(survey_cluster(api, surveyor.take))

        def cores(survey: Survey) -> float:
            found = survey.conditions.get("one")
            return found.offered.cores if found else -1.0

        def reason(survey: Survey) -> str:
            return survey.conditions["one"].reason

        try:
            await asyncio.to_thread(plane.apply, fake_node("one", cores=4, ram_gb=8, vgpus=2))
            await surveyor.until(lambda seen: cores(seen) == 4.0 and reason(seen) == "")
            assert surveyor.newest.conditions["one"].offered.vgpus == 2
            await asyncio.to_thread(plane.apply, daemon("one", "500m"))
            await surveyor.until(lambda seen: cores(seen) == 3.5)
            await asyncio.to_thread(plane.kubectl, "cordon", "one")
            await surveyor.until(lambda seen: reason(seen) == "cordoned")
            assert surveyor.newest.conditions["one"].ready
            await asyncio.to_thread(plane.kubectl, "uncordon", "one")
            await surveyor.until(lambda seen: reason(seen) == "")
            await asyncio.to_thread(plane.kubectl, "delete", "node", "one")
            await surveyor.until(lambda seen: "one" not in seen.conditions)
        finally:
            surveying.cancel()
            await asyncio.gather(surveying, return_exceptions=True)
            await api.close()

    asyncio.run(run())


@waits
def test_a_survey_grows_old_while_the_api_server_is_away(tmp_path: Path) -> None:
    async def run(plane: ControlPlane) -> None:
        api, surveyor = await open_api(plane.kubeconfig), Surveyor()
        surveying = asyncio.create_task(survey_cluster(api, surveyor.take))
        try:
            await asyncio.to_thread(plane.apply, fake_node("two", cores=4, ram_gb=8))
            await surveyor.until(lambda seen: "two" in seen.conditions)
            plane.stop("kube-apiserver")
            before = surveyor.newest.unix_s
            await asyncio.sleep(12.0)
            assert surveyor.newest.unix_s - before < 5.0
            await asyncio.to_thread(plane.start_api_server)
            await asyncio.to_thread(plane.kubectl, "cordon", "two")
            await surveyor.until(lambda seen: seen.conditions["two"].reason == "cordoned")
        finally:
            surveying.cancel()
            await asyncio.gather(surveying, return_exceptions=True)
            await api.close()

    with control_plane(tmp_path) as own:  # other tests need theirs
        asyncio.run(run(own))
