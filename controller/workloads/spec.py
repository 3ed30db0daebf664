"""Workload files, and the requests that they generate."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from controller.domain.errors import InputError
from controller.domain.profile import Prompt, linear, prompt_columns
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.testbed import Testbed
from controller.inputs.catalog import locate, parse, read_yaml
from controller.inputs.fields import Name, Record, Text
from controller.workloads.arrivals import (
    Arrivals,
    Floats,
    Root,
    check_lms,
    draw_bursty,
    draw_diurnal,
    draw_paper,
    draw_poisson,
)
from controller.workloads.playback import play
from controller.workloads.processes import (
    Bursty,
    Diurnal,
    Paper,
    Phases,
    Poisson,
    Process,
    TraceFile,
)
from controller.workloads.table import read_bytes
from controller.workloads.trace import SIZES, digest, parse_trace

MAX_LOAD: Final = 1000.0
PROMPT_COLUMNS: Final = tuple(name for name, _ in prompt_columns(Prompt()))
SHIPPED: Final = Path(str(resources.files("controller"))) / "data" / "workloads"


class WorkloadFile(Record):
    """A named arrival process."""

    name: Name
    summary: Text
    process: Process


def generate(
    workload: WorkloadFile,
    scenario: Scenario,
    slots: int,
    rng: np.random.Generator,
    load: float = 1.0,
) -> Requests:
    """Return the requests of a run, sorted by birth (ties by origin, then LM).

    Args:
        workload: arrival process.
        scenario: its testbed gives nodes and LMs, its profile work factors and payload bytes.
        slots: horizon; nothing is born later.
        rng: source of the workload's seed (four draws); the same state gives the same requests.
        load: multiplies the number of requests, not their sizes. A trace is compressed in time
            instead.

    Raises:
        InputError: the load is not in [0, MAX_LOAD], the testbed lacks an LM or node of the
            workload, or its trace has changed since it was loaded.
    """
    if not 0 <= load <= MAX_LOAD:
        raise InputError("load", f"must lie between 0 and {MAX_LOAD:g}", value=load)
    root = tuple(int(word) for word in rng.integers(0, 2**32, 4))
    return _assembled(_arrivals(workload, scenario, slots, load, root), scenario)


def most_requests(process: Process, testbed: Testbed, slots: int) -> float:
    """Return about how many requests and changes of state ``slots`` slots draw at load 1, at most;
    0 for a trace, whose file has them."""
    factor = 1.0
    if isinstance(process, Phases):
        weights = [phase.load * max(1.0, *phase.weights.values(), 1.0) for phase in process.phases]
        factor, process = max(weights), process.inner
    nodes, lms = len(testbed.nodes), len(testbed.lms)
    states = 0.0
    match process:
        case Paper():
            each = 1.0
        case Poisson() | Diurnal():
            each = _highest(process.requests_per_slot)
        case Bursty():
            rates = process.calm_requests_per_slot, process.burst_requests_per_slot
            each = max(map(_highest, rates))
            states = 2 * slots / (process.calm_slots + process.burst_slots) * nodes
        case TraceFile():
            each = 0.0
    return slots * nodes * lms * each * factor + states


def _highest(rate: float | dict[str, float]) -> float:
    return max(rate.values(), default=0.0) if isinstance(rate, dict) else rate


def _arrivals(
    workload: WorkloadFile, scenario: Scenario, slots: int, load: float, root: Root
) -> Arrivals:
    source, process = f"workload {workload.name}", workload.process
    intensity = np.full((slots, len(scenario.testbed.lms)), float(load))
    if isinstance(process, TraceFile):
        trace = parse_trace(_checked(process), process.file)
        return play(process, trace, scenario, slots, load, root, process.file)
    if isinstance(process, Phases):
        intensity *= _mix(process, scenario, slots, source)
        process = process.inner
    match process:
        case Paper():
            return draw_paper(process, scenario, intensity, root)
        case Poisson():
            return draw_poisson(process, scenario, intensity, root, source)
        case Bursty():
            return draw_bursty(process, scenario, intensity, root, source)
        case Diurnal():
            return draw_diurnal(process, scenario, intensity, root, source)


def _mix(process: Phases, scenario: Scenario, slots: int, source: str) -> Floats:
    """Return (T, I) the factor of the requests in each slot."""
    for phase in process.phases:
        check_lms(phase.weights, scenario, source, "weights")
    rows = np.array(
        [
            [phase.load * phase.weights.get(name, 1.0) for name in scenario.testbed.lm_names]
            for phase in process.phases
        ]
    )
    of_epoch = np.repeat(np.arange(len(rows)), [phase.epochs for phase in process.phases])
    epoch = np.arange(slots) // scenario.epoch_slots
    if process.after == "repeat":
        epoch %= len(of_epoch)
    return rows[of_epoch[np.minimum(epoch, len(of_epoch) - 1)]]


def _checked(process: TraceFile) -> bytes:
    """Return the trace's content.

    Raises:
        InputError: it has changed since the workload was loaded.
    """
    content = read_bytes(find_trace(process.file))
    if process.sha256 and digest(content) != process.sha256:
        raise InputError(
            process.file,
            "has changed since the workload was loaded",
            field="sha256",
            value=digest(content),
            remedy=f"restore the file with {process.sha256}, or load the workload again",
        )
    return content


def _assembled(arrivals: Arrivals, scenario: Scenario) -> Requests:
    """Return the arrivals sorted by birth, with the profile's work and payload."""
    slot_s = scenario.slot_s
    first_s = arrivals.slot * slot_s
    last_s = np.nextafter((arrivals.slot + 1) * slot_s, -np.inf)  # births lie within their slot
    born_s = np.clip((arrivals.slot + arrivals.offset) * slot_s, first_s, last_s)
    order = np.lexsort((arrivals.lm, arrivals.origin, born_s))
    lm, prompts = arrivals.lm[order], arrivals.prompts[order]
    work, uplink, downlink = (np.zeros(len(lm)) for _ in range(3))
    columns = {name: np.zeros(len(lm)) for name in PROMPT_COLUMNS}
    for i, name in enumerate(scenario.testbed.lm_names):
        mine = np.flatnonzero(lm == i)
        profile = scenario.profile.lms[name]
        sizes = {column: np.full(len(mine), x) for column, x in prompt_columns(profile.reference)}
        if arrivals.sizes is not None:
            for column in SIZES:
                given = arrivals.sizes[column][order[mine]]
                sizes[column] = np.where(np.isnan(given), sizes[column], given)
        for column, values in sizes.items():
            columns[column][mine] = values
        work[mine] = profile.work(sizes)
        uplink[mine] = linear(profile.uplink_bytes, sizes) * prompts[mine]
        downlink[mine] = linear(profile.downlink_bytes, sizes) * prompts[mine]
    return Requests(
        lm=lm,
        origin=arrivals.origin[order],
        prompts=prompts,
        slot=arrivals.slot[order],
        born_s=born_s[order],
        work=work,
        uplink_bytes=uplink,
        downlink_bytes=downlink,
        sizes=columns,
    )


def load_workload(name_or_path: str | Path) -> WorkloadFile:
    """Return a workload by shipped name or path. Its trace, if any, is checked, and its digest
    recorded.

    Raises:
        InputError: the workload or its trace does not exist or is malformed.
    """
    path = locate("workloads", name_or_path)
    workload = parse(WorkloadFile, str(path), read_yaml(path))
    process = workload.process
    if not isinstance(process, TraceFile):
        return workload
    found = find_trace(process.file, path.parent)
    shipped = found.parent == SHIPPED.resolve()
    process = process.model_copy(update={"file": found.name if shipped else str(found)})
    content = _checked(process)
    parse_trace(content, str(found))
    pinned = process.model_copy(update={"sha256": digest(content)})
    return workload.model_copy(update={"process": pinned})


def find_trace(file: str, folder: Path | None = None) -> Path:
    """Return the request file ``file``: a path, absolute or from ``folder``, or a shipped file's
    name.

    Raises:
        InputError: no such file; lists the places searched.
    """
    given = Path(file).expanduser()
    places = [given if folder is None else folder / given, SHIPPED / given]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise InputError(
        file,
        "no such request file",
        remedy=f"looked at {' and '.join(map(str, places))}; put it beside the workload file, or "
        "name another",
    )
