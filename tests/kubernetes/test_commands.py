"""The services' commands with what is wrong about a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.domain.errors import EdgelmError, InputError
from tests.kubernetes.cluster import ControlPlane

IMAGES = f"registry/edgelm-emulated@sha256:{'0' * 64}\n"


def refused(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments)).exception


@pytest.fixture
def images(tmp_path: Path) -> str:
    path = tmp_path / "images.txt"
    path.write_text(IMAGES)
    return str(path)


@pytest.fixture
def node(tmp_path: Path) -> list[str]:
    return ["node", "vm99", "--port", "0", "--data", str(tmp_path / "data")]


def test_options_of_a_cluster_need_one(node: list[str], images: str) -> None:
    error = refused(*node, "--images", images)
    assert isinstance(error, InputError)
    assert "--images: is for pods on a cluster" in str(error)


def test_pods_need_images(node: list[str]) -> None:
    error = refused(*node, "--kubernetes")
    assert isinstance(error, InputError)
    assert "needs the images of the LM servers" in str(error)


def test_outside_of_a_cluster_a_kubeconfig_is_needed(
    node: list[str], images: str, tmp_path: Path
) -> None:
    for command in (
        [*node, "--images", images],
        ["controller", "--port", "0", "--data", str(tmp_path / "controller")],
    ):
        error = refused(*command, "--kubernetes")
        assert isinstance(error, InputError)
        assert "this is no pod of one" in str(error)


def test_a_node_that_the_cluster_does_not_know(
    plane: ControlPlane, node: list[str], images: str
) -> None:
    access = ["--kubernetes", "--kubeconfig", str(plane.kubeconfig), "--images", images]
    error = refused(*node, *access)
    assert isinstance(error, InputError)
    assert "NODE: is no node of the cluster" in str(error)
    assert "kubectl get nodes" in str(error)


def test_a_controller_that_may_not(plane: ControlPlane, tmp_path: Path) -> None:
    nobody = plane.add_user("stranger", "/CN=stranger", "DNS:stranger")
    command = ["controller", "--port", "0", "--data", str(tmp_path / "controller")]
    error = refused(*command, "--kubernetes", "--kubeconfig", str(nobody))
    assert isinstance(error, EdgelmError)
    assert "may not list configmaps in namespace edgelm-lms" in str(error)
