"""What a testbed's services say of themselves, put together."""

from __future__ import annotations

from controller import __version__
from controller.bootstrap.condition import versions_of


def test_versions_of_everything_that_runs() -> None:
    found = {
        "version": "0.1.0",
        "nodes": {"vm2": {"version": "0.1.0"}, "vm3": {"fault": "does not answer: refused"}},
        "conditions": {"vm2": {"software": "Kubernetes 1.36.3"}, "vm3": {"software": ""}},
    }
    assert versions_of(found) == {
        "this edgelm": __version__,
        "controller": "0.1.0",
        "node vm2": "0.1.0",
        "node vm3": "does not answer",
        "machine vm2": "Kubernetes 1.36.3",
    }
