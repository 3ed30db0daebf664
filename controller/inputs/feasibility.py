"""Refuses a testbed and a profile that do not go together, saying why and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from controller.domain.errors import InputError
from controller.domain.profile import Profile
from controller.domain.scenario import Scenario
from controller.domain.testbed import Lm, Node, Testbed
from controller.inputs.documents import combine
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile
from controller.twin.layout import MAX_GPUS


def check_feasible(testbed_file: TestbedFile, profile_file: ProfileFile) -> None:
    """Every LM has a node that can run it, every node an LM, and every number that is needed.

    Raises:
        InputError: naming all that does not fit.
    """
    testbed, profile = testbed_file.to_domain(), profile_file.to_domain()
    missing = [*_unknown_lms(testbed, profile), *_unknown_hardware(testbed, profile)]
    errors = missing or [*_pods_too_small(testbed, profile), *_misfits(testbed, profile)]
    if errors:
        raise combine(f"testbed {testbed.name}", errors)


def _error(testbed: Testbed, field: str, problem: str, remedy: str) -> InputError:
    return InputError(f"testbed {testbed.name}", problem, field=field, remedy=remedy)


def _unknown_lms(testbed: Testbed, profile: Profile) -> Iterator[InputError]:
    for lm in testbed.lms:
        if lm.name not in profile.lms:
            yield _error(
                testbed,
                lm.name,
                f"is not in profile {profile.name}",
                f"that has {', '.join(profile.lms)}; add it there or choose another profile",
            )


def _unknown_hardware(testbed: Testbed, profile: Profile) -> Iterator[InputError]:
    cpus = {cpu for lm in profile.lms.values() for cpu in lm.cpu}
    gpus = {gpu for lm in profile.lms.values() for gpu in lm.gpu}
    need_cpus = any(not lm.gpu_only for lm in testbed.lms)
    for node in testbed.nodes:
        if need_cpus and node.cpu not in cpus:
            yield _no_hardware(testbed, profile, node, "CPU", node.cpu, cpus)
        if node.gpus and node.gpu not in gpus:
            yield _no_hardware(testbed, profile, node, "GPU", node.gpu, gpus)
        if node.gpus > MAX_GPUS:
            yield _error(
                testbed,
                node.name,
                f"has {node.gpus} GPUs, the twin knows at most {MAX_GPUS} on a node",
                "describe it as several nodes",
            )


def _no_hardware(
    testbed: Testbed, profile: Profile, node: Node, kind: str, model: str, known: set[str]
) -> InputError:
    return _error(
        testbed,
        node.name,
        f"profile {profile.name} has no times for its {kind} {model!r}",
        f"it has {', '.join(sorted(known)) or 'none'}; name the {kind} likewise, or choose or "
        "make another profile",
    )


def _pods_too_small(testbed: Testbed, profile: Profile) -> Iterator[InputError]:
    for lm in testbed.lms:
        needs = profile.lms[lm.name]
        for what, has_gb, needs_gb in (
            ("memory.ram_gb", lm.ram_gb, needs.resident_ram_gb),
            ("vram.gb", lm.vram_gb, needs.resident_vram_gb if needs.gpu else 0.0),
        ):
            if has_gb < needs_gb:
                yield _error(
                    testbed,
                    f"{lm.name}.{what}",
                    f"{has_gb:g} GB is less than the {needs_gb:g} GB it needs in profile "
                    f"{profile.name}, so its pod would be killed",
                    f"give it {needs_gb:g} GB or more",
                )


def _misfits(testbed: Testbed, profile: Profile) -> Iterator[InputError]:
    scenario = Scenario(testbed, profile)
    hosts = scenario.hosts()
    for i, lm in enumerate(testbed.lms):
        if not hosts[:, i].any():
            whys = [f"on {node.name} it {_obstacle(node, lm, scenario)}" for node in testbed.nodes]
            yield _error(
                testbed, lm.name, f"fits nowhere: {_few(whys)}", "add such a node, or drop the LM"
            )
    for n, node in enumerate(testbed.nodes):
        if not hosts[n].any():
            whys = [f"{lm.name} {_obstacle(node, lm, scenario)}" for lm in testbed.lms]
            yield _error(
                testbed, node.name, f"can run no LM: {_few(whys)}", "enlarge the node, or drop it"
            )


def _obstacle(node: Node, lm: Lm, scenario: Scenario) -> str:
    """Why a node cannot run an LM, neither on a GPU nor on its cores."""
    profile = scenario.profile.lms[lm.name]
    if lm.ram_gb > node.ram_gb:
        return f"needs {lm.ram_gb:g} GB of RAM, not {node.ram_gb:g}"
    on_cpu = "runs on GPUs only" if lm.gpu_only else f"has no times for CPU {node.cpu}"
    if not node.gpus:
        return f"{on_cpu}, and there is no GPU"
    if node.gpu not in profile.gpu:
        return f"{on_cpu}, and has no times for GPU {node.gpu}"
    if lm.vram_gb > node.vram_gb:
        return f"{on_cpu}, and needs {lm.vram_gb:g} GB of vRAM, not {node.vram_gb:g}"
    return f"{on_cpu}, and needs {profile.host_cores:g} cores beside a GPU, not {node.cores:g}"


def _few(reasons: list[str]) -> str:
    more = f"; and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    return "; ".join(reasons[:4]) + more
