"""The control plane that the other tests stand on is a real one."""

from __future__ import annotations

import time

from tests.kubernetes.cluster import ControlPlane, fake_node


def test_third_vgpu_of_two_waits(plane: ControlPlane) -> None:
    plane.apply(fake_node("third", cores=4, ram_gb=8, vgpus=2))
    plane.kubectl("create", "namespace", "third")
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{k}", "namespace": "third"},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": "third"},
                "containers": [
                    {
                        "name": "lm",
                        "image": "nothing",
                        "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}},
                    }
                ],
            },
        }
        for k in range(3)
    ]
    plane.apply(*pods)
    end_s = time.monotonic() + 20
    while True:
        found = plane.get("pods", "-n", "third")["items"]
        phases = sorted(pod["status"]["phase"] for pod in found)
        if phases == ["Pending", "Running", "Running"] or time.monotonic() > end_s:
            break
        time.sleep(0.2)
    assert phases == ["Pending", "Running", "Running"]
    waiting = next(pod for pod in found if pod["status"]["phase"] == "Pending")
    assert "Insufficient nvidia.com/gpu" in waiting["status"]["conditions"][0]["message"]
