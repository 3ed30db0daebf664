"""Who may not, cannot or does not reach a cluster is told what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.domain.errors import InputError, Permanent, Transient
from controller.testbed.kubernetes.access import Call, Document, Missing, Refused, open_api
from tests.kubernetes.cluster import ControlPlane

PODS = Call("list", "pods", "edgelm-lms")


def ask(kubeconfig: Path | None, call: Call = PODS) -> Document:
    async def asking() -> Document:
        api = await open_api(kubeconfig)
        try:
            return await api.call(call)
        finally:
            await api.close()

    return asyncio.run(asking())


def test_the_administrator_gets_an_answer(plane: ControlPlane) -> None:
    assert ask(plane.kubeconfig)["kind"] == "PodList"


@pytest.mark.parametrize("text", ["", "no: [yaml", "kind: Config", "{}"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(InputError, match=r"--kubeconfig: is no kubeconfig .*kubectl"):
        ask(path)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--kubeconfig: cannot be read: No such file"):
        ask(tmp_path / "missing")


def test_outside_of_a_pod_a_kubeconfig_is_needed() -> None:
    with pytest.raises(InputError, match=r"this is no pod of one .*give --kubeconfig FILE"):
        ask(None)


def test_a_token_that_has_expired(plane: ControlPlane) -> None:
    config = plane.token_config("expired", "no-longer-good")
    with pytest.raises(Permanent, match=r"cannot list pods in namespace edgelm-lms: .* expired"):
        ask(config)


def test_who_may_not_hears_which_verb_and_resource(plane: ControlPlane) -> None:
    config = plane.add_user("nobody", "/CN=nobody", "DNS:nobody")
    with pytest.raises(
        Refused, match=r"may not list pods in namespace edgelm-lms: .*edgelm manifests"
    ):
        ask(config)


def test_a_server_that_is_not_there(plane: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(plane.kubeconfig.read_text().replace(str(plane.port), "9"))
    with pytest.raises(Transient, match=r"cannot list pods .*127.0.0.1:9 does not answer"):
        ask(path)


def test_a_server_of_another_authority(plane: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    other = plane.kubeconfig.read_text().replace("ca.crt", "admin.crt")
    path.write_text(other)
    with pytest.raises(Permanent, match="the certificate of"):
        ask(path)


def test_what_is_missing(plane: ControlPlane) -> None:
    with pytest.raises(Missing, match="cannot get nodes vm99"):
        ask(plane.kubeconfig, Call("get", "nodes", name="vm99"))
