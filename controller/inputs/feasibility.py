"""Check that a testbed and a profile fit together; errors name the reason and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controller.domain.errors import InputError
from controller.domain.profile import Profile
from controller.domain.scenario import Scenario
from controller.domain.testbed import MAX_GPUS, Lm, Node, Testbed
from controller.inputs.documents import combine
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import PREFIX, TestbedFile


def check_feasible(testbed_file: TestbedFile, profile_file: ProfileFile) -> None:
    """Check that every LM has a node, every node has an LM, disks hold the images, and the profile
    has all times needed.

    Raises:
        InputError: something does not fit; lists every problem.
    """
    testbed, profile = testbed_file.to_domain(), profile_file.to_domain()
    missing = [*_unknown_lms(testbed, profile), *_unknown_hardware(testbed, profile)]
    errors = missing or [
        *_pods_too_small(testbed, profile),
        *_misfits(testbed, profile),
        *_disks_too_small(testbed_file, testbed, profile),
    ]
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
    lms = profile.lms.values()
    if any(not lm.gpu_only for lm in testbed.lms):
        known = {cpu for lm in lms for cpu in lm.cpu}
        yield from _untimed(testbed, profile, "CPU", known, lambda node: node.cpu)
    known = {gpu for lm in lms for gpu in lm.gpu}
    yield from _untimed(testbed, profile, "GPU", known, lambda node: node.gpu)
    for node in testbed.nodes:
        if node.gpus > MAX_GPUS:
            yield _error(
                testbed,
                node.name,
                f"has {node.gpus} GPUs, but the twin knows at most {MAX_GPUS} on a node",
                "describe it as several nodes",
            )


def _untimed(
    testbed: Testbed, profile: Profile, kind: str, known: set[str], model: Callable[[Node], str]
) -> Iterator[InputError]:
    """Yield one error for each CPU or GPU model without times in the profile."""
    for unknown in dict.fromkeys(model(node) for node in testbed.nodes):
        if not unknown or unknown in known:
            continue
        nodes = [node.name for node in testbed.nodes if model(node) == unknown]
        yield _error(
            testbed,
            _few(nodes, ", "),
            f"profile {profile.name} has no times for {kind} {unknown!r}",
            f"it has {', '.join(sorted(known)) or 'none'}; give the {kind} one of these "
            "names, or choose or make another profile",
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


def _disks_too_small(
    testbed_file: TestbedFile, testbed: Testbed, profile: Profile
) -> Iterator[InputError]:
    """Yield an error for each worker whose disk cannot hold twice the images of the LMs that it
    may run. A pull needs twice the size: packed and unpacked, or old and new."""
    file, hosts = testbed_file.all, Scenario(testbed, profile).hosts()
    for n, node in enumerate(testbed.nodes):
        disk_gb = file.children.workers.hosts[node.name].disk_gb
        images = [lm for lm, can in zip(file.vars.lms, hosts[n], strict=True) if can]
        needs_gb = 2 * sum(lm.memory.storage_gb for lm in images)
        if disk_gb < needs_gb:
            names = ", ".join(lm.name for lm in images)
            yield InputError(
                f"testbed {testbed.name}",
                f"cannot hold the images of {names} twice, as it must while they are pulled",
                field=f"{node.name}.{PREFIX}disk_gb",
                value=disk_gb,
                remedy=f"{needs_gb:g} GB or more, and room for the system, logs and results",
            )


def _obstacle(node: Node, lm: Lm, scenario: Scenario) -> str:
    """Return the reason why a node can run an LM neither on a GPU nor on its cores."""
    profile = scenario.profile.lms[lm.name]
    if lm.ram_gb > node.ram_gb:
        return f"needs {lm.ram_gb:g} GB of RAM, not the {node.ram_gb:g} allocatable"
    on_cpu = "runs on GPUs only" if lm.gpu_only else f"has no times for CPU {node.cpu}"
    if not node.gpus:
        return f"{on_cpu}, and there is no GPU"
    if node.gpu not in profile.gpu:
        return f"{on_cpu}, and has no times for GPU {node.gpu}"
    if lm.vram_gb > node.vram_gb:
        return f"{on_cpu}, and needs {lm.vram_gb:g} GB of vRAM, not {node.vram_gb:g}"
    return f"{on_cpu}, and needs {lm.cores_on_gpu:g} cores beside a GPU, not {node.cores:g}"


def _few(items: list[str], separator: str = "; ") -> str:
    more = f"{separator}and {len(items) - 4} more" if len(items) > 4 else ""
    return separator.join(items[:4]) + more
