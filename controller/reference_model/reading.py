"""Reads an agent's prompt: the <context> and <observation> blocks, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.errors import EdgelmError
from controller.domain.profile import Batching, Curve, LmProfile, Profile, Prompt, Size
from controller.domain.scenario import Scenario
from controller.domain.state import MODES, STATES, ClusterState
from controller.domain.testbed import Lm, Network, Node, Testbed
from controller.wire import intent_from_wire, mask_of

Json = Mapping[str, Any]


MOST: Final = 1e9  # of any number in a prompt: beyond what is meant, and sums stay finite
MOST_SLICES: Final = 64  # GPUs of a node, and slices of one

# What JSON of another shape than expected makes of code that reads it.
MISREAD: Final = (
    ArithmeticError,
    AttributeError,
    EdgelmError,
    MemoryError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)


class UnreadablePromptError(Exception):
    """The messages are not those of one of our agents."""


def block(messages: Sequence[Json], tag: str) -> str | None:
    """Return the text of the last <tag> block in messages of anyone but the model."""
    for message in reversed(messages):
        content = message.get("content")
        if message.get("role") == "assistant" or not isinstance(content, str):
            continue
        start, end = content.find(f"<{tag}>"), content.rfind(f"</{tag}>")
        if 0 <= start < end:
            return content[start + len(tag) + 2 : end]
    return None


def scenario_of(context: Json) -> Scenario:
    """Return the testbed and profile that a context describes. Payloads and links are not in it:
    nothing that is decided depends on them."""
    if any(
        not 0 <= group.get(name, 0) <= MOST_SLICES
        for group in context["nodes"]
        for name in ("gpus", "vgpus_per_gpu")
    ):
        raise ValueError(f"a node has more than {MOST_SLICES} GPUs, or a GPU more slices")
    nodes = [
        Node(
            name=name,
            site=group["site"],
            cpu=group["cpu"],
            cores=group["cores"],
            ram_gb=group["ram_gb"],
            gpus=group["gpus"],
            gpu=group.get("gpu", ""),
            vram_gb=group.get("vram_gb", 0.0),
            vgpus_per_gpu=group.get("vgpus_per_gpu", 0),
        )
        for group, names in _groups(context)
        for name in names
    ]
    lms = [
        Lm(
            name=name,
            title=name,
            model="",
            modality=lm["modality"],
            ram_gb=lm["ram_gb"],
            vram_gb=lm["vram_gb"],
            gpu_only=lm["gpu_only"],
            cores_on_gpu=lm["cores_beside_gpu"],
        )
        for name, lm in context["lms"].items()
    ]
    profiles = {name: _profile(lm) for name, lm in context["lms"].items()}
    return Scenario(
        testbed=Testbed("prompt", tuple(nodes), tuple(lms), Network(1.0, 0.0, 1.0, 0.0)),
        profile=Profile("prompt", profiles, context["gpu_switch_loss"]),
        slot_s=context["slot_s"],
        epoch_slots=context["epoch_slots"],
        tau_s=context["deadline_s"],
        lam=context["lambda"],
    )


def _groups(context: Json) -> list[tuple[Json, Sequence[str]]]:
    """Return nodes of equal hardware and their names; those of a class get some."""
    if "classes" not in context:
        return [(group, group["names"]) for group in context["nodes"]]
    return [
        (group, [f"{name}-{k}" for k in range(group["nodes"])])
        for name, group in context["classes"].items()
    ]


def _profile(lm: Json) -> LmProfile:
    curves = {
        hardware: Curve(tuple(float(a) for a in points), tuple(points.values()))
        for hardware, points in lm["seconds_per_prompt"].items()
    }
    return LmProfile(
        reference=Prompt(),
        work_model=Size(fixed=1.0),
        cpu={name: curve for name, curve in curves.items() if name.startswith("cpu")},
        gpu={name: curve for name, curve in curves.items() if name.startswith("gpu")},
        cpu_batching=Batching(),
        gpu_batching=Batching(),
        start_cpu_s=lm["start_on_cpu_s"],
        start_gpu_s=lm["start_on_gpu_s"],
        stop_s=lm["stop_s"],
        resident_ram_gb=lm["ram_gb"],
        resident_vram_gb=lm["vram_gb"],
        uplink_bytes=Size(),
        downlink_bytes=Size(),
    )


def demand_of(lms: Sequence[str], told: Json | None) -> Demand | None:
    if told is None:
        return None
    return Demand(
        requests=np.array([told[lm]["requests_per_slot"] for lm in lms], np.float64),
        prompts=np.array([told[lm]["prompts_per_request"] for lm in lms], np.float64),
    )


def policy_of(scenario: Scenario, told: Json) -> MacroPolicy:
    """Return a policy as prompts describe it: shares by LM, roles by node, the forecast."""
    demand = demand_of(scenario.testbed.lm_names, told["forecast"])
    return intent_from_wire(scenario.testbed, told, demand)


def state_of(scenario: Scenario, pods: Json, down: Sequence[str], slot: int) -> ClusterState:
    """Return nodes and pods as prompts describe them. Headroom and arrivals stay zero: the
    optimiser takes the first from the pods and gets the second as expected prompts."""
    nodes, lms = scenario.testbed.node_names, scenario.testbed.lm_names
    shape = len(nodes), len(lms)
    ints = {name: np.zeros(shape, np.int64) for name in _INTS}
    cores = np.zeros(shape)
    column = {lm: i for i, lm in enumerate(lms)}
    for n, node in enumerate(nodes):
        for lm, pod in pods.get(node, {}).items():
            at = n, column[lm]
            ints["backlog"][at] = pod["backlog"]
            ints["want_mode"][at] = MODES.index(pod["wanted"])
            ints["mode"][at] = MODES.index(pod.get("held", pod["wanted"]))
            ints["pod"][at] = STATES.index(pod["state"])
            ints["want_vgpus"][at] = pod.get("vgpus", 0)
            ints["cards"][at] = mask_of(pod.get("gpus", ()))
            cores[at] = pod.get("cores", 0.0)
    return ClusterState(
        time_s=slot * scenario.slot_s,
        slot=slot - 1,
        rows=np.arange(len(nodes)),
        up=np.array([node not in down for node in nodes], np.bool_),
        heard_s=np.full(len(nodes), slot * scenario.slot_s),
        vgpus=ints["want_vgpus"],
        cores=cores,
        want_cores=cores,
        want_slot=np.full(len(nodes), slot - 1),
        free_cores=np.zeros(len(nodes)),
        free_ram_gb=np.zeros(len(nodes)),
        free_vgpus=np.zeros(len(nodes), np.int64),
        arrived_prompts=np.zeros(shape, np.int64),
        arrived_requests=np.zeros(shape, np.int64),
        busy_s=np.zeros(shape),
        **ints,
    )


_INTS = ("backlog", "mode", "want_mode", "want_vgpus", "cards", "pod")


def parse(text: str | None, what: str) -> Json:
    """Return a block's JSON object.

    Raises:
        UnreadablePromptError: there is none.
    """
    if text is None:
        raise UnreadablePromptError(f"the messages hold no {what} block of an edgelm agent")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadablePromptError(f"the {what} block is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadablePromptError(f"the {what} block is no JSON object")
    _check_numbers(value, what)
    return value


def _check_numbers(value: object, what: str) -> None:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_numbers(part, what)
    elif isinstance(value, int | float) and not abs(value) <= MOST:
        raise UnreadablePromptError(f"the {what} block has a number beyond {MOST:g}")
