"""A calibration as files: a profile and a testbed that a run takes instead of the old ones."""

from __future__ import annotations

from typing import Any

from controller.calibration.estimates import Estimate
from controller.calibration.fit import Calibration
from controller.inputs.documents import parse
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile


def calibrated_profile(profile: ProfileFile, found: Calibration) -> ProfileFile:
    """Return the profile with every number that was estimated; the others stay as they are."""
    document: dict[str, Any] = profile.model_dump(mode="json")
    for (lm, device, model), scale in found.service.items():
        if scale.value is None:
            continue
        block = document["lms"][lm][device][model]
        block["seconds"] = [_rounded(one * scale.value) for one in block["seconds"]]
        block["source"] = "measured"
        block["how"] = (
            f"Calibrated: {profile.name} times {_shown(scale)}, {scale.n} requests of "
            f"{found.origin}. Scaled as a whole: the shape over cores or GPUs is {profile.name}'s."
        )
    for lm, entry in document["lms"].items():
        seen = {d: found.starts[lm, d] for d in ("cpu", "gpu") if (lm, d) in found.starts}
        seen = {device: one for device, one in seen.items() if one.value is not None}
        for device, one in seen.items():
            entry["life_cycle"][f"start_{device}_s"] = _rounded(one.value or 0.0)
        if seen:
            parts = [f"start on {d} {_shown(one)} s, {one.n} pods" for d, one in seen.items()]
            entry["life_cycle"]["source"] = "measured"
            entry["life_cycle"]["how"] = (
                f"Calibrated: {'; '.join(parts)} of {found.origin}. The rest is {profile.name}'s."
            )
    document["name"] = f"{profile.name}-calibrated"
    document["summary"] = f"{profile.name}, calibrated by {found.origin}."
    return parse(ProfileFile, f"profile {profile.name}, calibrated", document)


def calibrated_testbed(testbed: TestbedFile, found: Calibration) -> TestbedFile:
    """Return the testbed with the latencies of its network that were estimated."""
    document: dict[str, Any] = testbed.model_dump(mode="json")
    variables = document["all"]["vars"]
    network = variables["edgelm_network"]
    for link, one in found.links.items():
        if one.value is not None:
            network[link]["latency_s"] = _rounded(one.value)
            network[link]["source"] = "measured"
            network[link]["how"] = (
                f"Latency calibrated: {_shown(one)} s one way, {one.n} requests of {found.origin}. "
                f"Bandwidth as in {testbed.name}."
            )
    if found.control.value is not None:
        network["control"] = {
            "seconds": _rounded(found.control.value),
            "source": "measured",
            "how": f"Calibrated: {_shown(found.control)} s, {found.control.n} requests that waited "
            f"for a plan, of {found.origin}.",
        }
    name = testbed.name[: 63 - len("-calibrated")]
    variables["edgelm_testbed"] = f"{name}-calibrated"
    variables["edgelm_summary"] = f"{testbed.name}, its network calibrated by {found.origin}."
    return parse(TestbedFile, f"testbed {testbed.name}, calibrated", document)


def _shown(one: Estimate) -> str:
    return f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g})"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
