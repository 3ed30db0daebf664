"""What is known of pods stays fresh, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from controller.testbed.kubernetes import watching
from controller.testbed.kubernetes.access import Call, open_api
from controller.testbed.kubernetes.watching import Watched
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import until as until_seen
from tests.kubernetes.loop import opened
from tests.kubernetes.proxy import Proxy
from tests.waiting import waits

NAMESPACE = "watching"
LIST = Call("list", "configmaps", NAMESPACE)


@pytest.fixture(scope="module", autouse=True)
def _namespace(plane: ControlPlane) -> None:
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    until_seen(
        lambda: plane.get("configmaps", "-n", NAMESPACE), lambda found: found["items"]
    )  # kube-root-ca.crt


def config(name: str, value: str = "") -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE, "labels": {"test": "watching"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}


async def until(happened: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.02)


def test_objects_come_change_and_go(plane: ControlPlane) -> None:
    async def test() -> None:
        async with opened(plane) as api:
            heard: list[str] = []
            seen = Watched(api, LIST, {"labelSelector": "test=watching"}, heard.append)
            task = asyncio.create_task(seen.run())
            await asyncio.to_thread(plane.apply, config("one", "a"))
            await until(lambda: "one" in seen.objects)
            await asyncio.to_thread(plane.apply, config("one", "b"))
            await until(lambda: seen.objects["one"]["data"]["value"] == "b")
            await asyncio.to_thread(plane.kubectl, "delete", "configmap", "one", "-n", NAMESPACE)
            await until(lambda: "one" not in seen.objects)
            assert set(heard) == {"one"}
            task.cancel()

    asyncio.run(test())


@waits
def test_a_half_open_connection_is_found(plane: ControlPlane, tmp_path: Path) -> None:
    """The proxy's old connections carry nothing more, and nobody closes them."""

    async def test() -> None:
        async with Proxy(plane.port) as proxy, opened(plane) as direct:
            document = json.loads(plane.kubeconfig.read_text())
            document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
            through = tmp_path / "through.kubeconfig"
            through.write_text(json.dumps(document))
            api = await open_api(through)
            seen = Watched(api, LIST, {"labelSelector": "test=watching"}, lambda name: None)
            task = asyncio.create_task(seen.run())
            await until(lambda: seen.age_s < 5)
            proxy.frozen = True
            await direct.call(Call("create", "configmaps", NAMESPACE), config("late"))
            began_s = time.monotonic()
            await until(lambda: "late" in seen.objects, 60.0)
            print(f"\nfresh again {time.monotonic() - began_s:.0f} s after the connection died")
            task.cancel()
            await api.close()
            await direct.call(Call("delete", "configmaps", NAMESPACE, "late"))

    asyncio.run(test())


def test_a_version_that_is_too_old_is_listed_again(plane: ControlPlane) -> None:
    """HTTP 410, which a server answers after compaction."""

    async def test() -> None:
        async with opened(plane) as api:
            with pytest.raises(watching.Expired):
                async for _ in api.watch(
                    Call("watch", "configmaps", NAMESPACE), {"resourceVersion": "1"}, 2
                ):
                    pass

    plane.stop("kube-apiserver")  # its cache, which a new one has not, remembers longer than etcd
    plane.start_api_server()
    asyncio.run(test())


def test_an_api_server_that_is_away_is_waited_for(plane: ControlPlane) -> None:
    async def test() -> None:
        async with opened(plane) as api:
            seen = Watched(api, LIST, {"labelSelector": "test=watching"}, lambda name: None)
            await api.call(Call("create", "configmaps", NAMESPACE), config("kept"))
            task = asyncio.create_task(seen.run())
            await until(lambda: "kept" in seen.objects)
            plane.stop("kube-apiserver")
            await until(lambda: "does not answer" in seen.fault)
            assert "kept" in seen.objects, "what is known is old, not gone"
            await asyncio.sleep(3)
            assert seen.age_s > 2
            await asyncio.to_thread(plane.start_api_server)
            await until(lambda: seen.fault == "")
            await api.call(Call("delete", "configmaps", NAMESPACE, "kept"))
            await until(lambda: "kept" not in seen.objects)
            task.cancel()

    asyncio.run(test())
