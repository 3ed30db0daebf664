"""Event kernel of the twin, one node at a time between slot boundaries. Rules: docs/twin.md.

Compiled by Numba, so records are changed in place and nothing is allocated per event. At one
instant events happen in this order: node up or down, pod life cycle (by LM), batch ends (by LM),
deadlines (by LM), arrivals (by request); commands follow, as they are given at that instant.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
)
from controller.twin.layout import (
    DEADLINE,
    LOST_NODE,
    MAX_GPUS,
    NONE,
    NOT_DEPLOYED,
    REFUSED,
    Memory,
    Tables,
)

EPSILON = 1e-9  # slack on sums of cores and GB


@njit(cache=True)
def outage_at(tables: Tables, n: int, time_s: float) -> int:
    """Index of the outage of node n that covers ``time_s``, or NONE."""
    for o in range(tables.outages.shape[1]):
        if time_s < tables.outages[n, o, 0]:
            return NONE
        if time_s < tables.outages[n, o, 1]:
            return o
    return NONE


@njit(cache=True)
def heard_s(tables: Tables, n: int, time_s: float) -> float:
    """When a message that reaches node n at ``time_s`` is taken: at once, or as it recovers."""
    o = outage_at(tables, n, time_s)
    return time_s if o == NONE else tables.outages[n, o, 1]


@njit(cache=True)
def dispatch(memory: Memory, tables: Tables, first: int, last: int) -> None:
    """Put requests ``first <= q < last``, whose ``sent_s`` and ``destination`` are set, on their
    way: into their destination's transit list, sorted by arrival, then by id. Refused ones
    (destination NONE) are closed."""
    for q in range(first, last):
        request = memory.requests[q]
        if request.destination == NONE:
            request.sent_s = np.nan
            close(memory, q, REFUSED)
            continue
        request.sent_s = heard_s(tables, request.origin, request.sent_s)
        request.arrived_s = request.sent_s + request.uplink_s
        node = memory.nodes[request.destination]
        before, after = NONE, node.transit
        while after != NONE and memory.requests[after].arrived_s <= request.arrived_s:
            before, after = after, memory.requests[after].next
        request.next = after
        if before == NONE:
            node.transit = q
        else:
            memory.requests[before].next = q


@njit(cache=True)
def close(memory: Memory, q: int, failure: int) -> None:
    """No node holds request q any longer."""
    request = memory.requests[q]
    request.failure = failure
    request.closed = 1
    request.next = NONE
    memory.closed[memory.counters[0]] = q
    memory.counters[0] += 1


@njit(cache=True)
def expire(memory: Memory, tables: Tables, n: int, q: int) -> None:
    """Close request q, bound for node n and past its deadline, with the reason."""
    request = memory.requests[q]
    pod = memory.pods[n, request.lm]
    holder = request.origin if request.deadline_s <= request.sent_s else n
    if outage_at(tables, holder, request.deadline_s) != NONE:
        close(memory, q, LOST_NODE)
    elif (
        not np.isnan(request.arrived_s)
        and np.isnan(request.started_s)
        and pod.state != POD_READY
        and not (pod.ready_until_s >= request.arrived_s)
    ):
        close(memory, q, NOT_DEPLOYED)
    else:
        close(memory, q, DEADLINE)


@njit(cache=True)
def rate(memory: Memory, tables: Tables, n: int, i: int) -> float:
    """Progress of the serving pod per second, 1 undisturbed: the share of its busiest GPU."""
    pod = memory.pods[n, i]
    slowest = 1.0
    if pod.mode == GPU:
        for g in range(MAX_GPUS):
            sharers = memory.cards[n, g].busy
            if pod.gpu_mask >> g & 1 and sharers > 1:
                slowest = min(slowest, (1.0 - tables.switch_loss) / sharers)
    return slowest


@njit(cache=True)
def occupy(memory: Memory, n: int, i: int, change: int) -> None:
    """The pod's GPUs have one busy pod more (1) or less (-1)."""
    pod = memory.pods[n, i]
    for g in range(MAX_GPUS):
        if pod.gpu_mask >> g & 1:
            memory.cards[n, g].busy += change


@njit(cache=True)
def pause(memory: Memory, n: int, i: int) -> None:
    """Stop serving; what was done of the batch is lost, the finished prompts are not."""
    pod = memory.pods[n, i]
    if pod.serving:
        pod.serving = 0
        occupy(memory, n, i, -1)


@njit(cache=True)
def serve(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Let an idle ready pod take up the first live request of its queue."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    while pod.head != NONE and memory.requests[pod.head].deadline_s <= now_s:
        drop_head(memory, tables, n, i)
    if pod.head == NONE:
        return
    request = memory.requests[pod.head]
    if np.isnan(request.started_s):
        request.started_s = now_s
    device = pod.mode - CPU
    pod.batch = min(tables.batch_max[i, device], request.prompts - request.done)
    pod.left_s = pod.prompt_s * request.work * tables.batch[i, device, pod.batch - 1]
    pod.serving = 1
    occupy(memory, n, i, 1)


@njit(cache=True)
def drop_head(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Expire the first request of the queue."""
    pod = memory.pods[n, i]
    q = pod.head
    request = memory.requests[q]
    pod.backlog -= request.prompts - request.done
    pod.head = request.next
    if pod.head == NONE:
        pod.tail = NONE
    expire(memory, tables, n, q)


@njit(cache=True)
def purge(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Expire every waiting request that is past its deadline. One in service is left to its own
    deadline event."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    before = NONE
    q = pod.head
    if pod.serving:
        before, q = q, memory.requests[q].next
    while q != NONE:
        request = memory.requests[q]
        after = request.next
        if request.deadline_s <= now_s:
            pod.backlog -= request.prompts - request.done
            if before == NONE:
                pod.head = after
            else:
                memory.requests[before].next = after
            if after == NONE:
                pod.tail = before
            expire(memory, tables, n, q)
        else:
            before = q
        q = after


@njit(cache=True)
def place(memory: Memory, tables: Tables, n: int, i: int) -> bool:
    """Choose the pending pod's slices, spread over the GPUs with most free slices. False and
    nothing changed if they or the GPU memory on them are not to be had."""
    pod = memory.pods[n, i]
    usable = 0
    for g in range(MAX_GPUS):
        usable += memory.cards[n, g].free_slices > 0
    spanned = min(pod.want_vgpus, usable)
    if spanned == 0:
        return False
    vram_gb = tables.lm[i].vram_gb / spanned
    mask, held = 0, 0
    while held < pod.want_vgpus:
        best = NONE
        for g in range(MAX_GPUS):
            card = memory.cards[n, g]
            chosen = mask >> g & 1
            fresh = held < spanned  # first one slice on each of the GPUs to span
            room = card.free_slices - pod.slices[g]
            if room <= 0 or chosen == fresh or (fresh and card.free_vram_gb < vram_gb - EPSILON):
                continue
            if best == NONE or room > memory.cards[n, best].free_slices - pod.slices[best]:
                best = g
        if best == NONE:
            pod.slices[:] = 0
            return False
        pod.slices[best] += 1
        mask |= 1 << best
        held += 1
    pod.gpu_mask = mask
    return True


@njit(cache=True)
def tally(memory: Memory, tables: Tables, n: int) -> None:
    """Recount what is free on the node: running sums of fractions would drift."""
    node = memory.nodes[n]
    node.free_cores, node.free_ram_gb = node.cores, node.ram_gb
    for g in range(MAX_GPUS):
        card = memory.cards[n, g]
        card.free_slices, card.free_vram_gb = card.slices, card.vram_gb
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        if pod.mode == OFF:
            continue
        node.free_cores -= pod.cores
        node.free_ram_gb -= tables.lm[i].ram_gb
        for g in range(MAX_GPUS):
            if pod.gpu_mask >> g & 1:
                memory.cards[n, g].free_slices -= pod.slices[g]
                memory.cards[n, g].free_vram_gb -= tables.lm[i].vram_gb / ones(pod.gpu_mask)


@njit(cache=True)
def ones(mask: int) -> int:
    """GPUs in a mask."""
    count = 0
    for g in range(MAX_GPUS):
        count += mask >> g & 1
    return count


@njit(cache=True)
def cpu_prompt_s(tables: Tables, hardware: int, i: int, cores: float) -> float:
    """:meth:`controller.domain.profile.Curve.at` for a CPU; NaN without cores."""
    xs, ys = tables.cpu_cores[hardware, i], tables.cpu_seconds[hardware, i]
    if cores <= 0.0:
        return np.nan
    if cores < xs[0]:
        return float(ys[0] * xs[0] / cores)
    return float(np.interp(cores, xs, ys))


@njit(cache=True)
def start_pending(memory: Memory, tables: Tables, n: int) -> None:
    """Start every pending pod whose resources are free, in the order of LMs."""
    node = memory.nodes[n]
    for i in range(memory.pods.shape[1]):
        pod, lm = memory.pods[n, i], tables.lm[i]
        if pod.state != POD_PENDING:
            continue
        if pod.want_cores > node.free_cores + EPSILON or lm.ram_gb > node.free_ram_gb + EPSILON:
            continue
        if pod.want_mode == GPU:
            if np.isnan(tables.gpu_seconds[n, i, 0]) or not place(memory, tables, n, i):
                continue
            pod.prompt_s = tables.gpu_seconds[n, i, ones(pod.gpu_mask) - 1]
            pod.timer_s = node.now_s + lm.start_gpu_s
        else:
            pod.prompt_s = cpu_prompt_s(tables, node.hardware, i, pod.want_cores)
            if np.isnan(pod.prompt_s):
                continue
            pod.timer_s = node.now_s + lm.start_cpu_s
        pod.mode, pod.vgpus, pod.cores = pod.want_mode, pod.want_vgpus, pod.want_cores
        pod.state = POD_STARTING
        pod.starts += 1
        tally(memory, tables, n)


@njit(cache=True)
def release(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """The pod is gone: its resources are free."""
    pod = memory.pods[n, i]
    pod.slices[:] = 0
    pod.mode, pod.vgpus, pod.cores, pod.gpu_mask = OFF, 0, 0.0, 0
    pod.timer_s = inf
    pod.state = POD_OFF if pod.want_mode == OFF else POD_PENDING
    tally(memory, tables, n)


@njit(cache=True)
def life_cycle(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """The pod's timer has run out: it is ready, or gone."""
    pod = memory.pods[n, i]
    if pod.state == POD_STARTING:
        purge(memory, tables, n, i)
        pod.state = POD_READY
        pod.timer_s = inf
        serve(memory, tables, n, i)
    else:
        release(memory, tables, n, i)
        start_pending(memory, tables, n)


@njit(cache=True)
def stop(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Begin the termination of a starting or ready pod."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    if pod.state == POD_READY:
        pause(memory, n, i)
        pod.ready_until_s = now_s
    pod.state = POD_STOPPING
    pod.timer_s = now_s + tables.lm[i].stop_s


@njit(cache=True)
def failed_return(tables: Tables, origin: int, returned_s: float, deadline_s: float) -> int:
    """The failure of a result that is back at ``returned_s``; 0 if it is in time."""
    if returned_s <= deadline_s:
        return 0
    return DEADLINE if outage_at(tables, origin, deadline_s) == NONE else LOST_NODE


@njit(cache=True)
def end_batch(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """A batch is done: checkpoint it, send the result if it was the last, go on."""
    pod = memory.pods[n, i]
    q = pod.head
    request = memory.requests[q]
    pause(memory, n, i)
    request.done += pod.batch
    pod.backlog -= pod.batch
    if request.done == request.prompts:
        now_s = memory.nodes[n].now_s
        request.finished_s = now_s
        request.returned_s = heard_s(tables, request.origin, now_s + request.downlink_s)
        request.downlink_s = request.returned_s - now_s
        pod.head = request.next
        if pod.head == NONE:
            pod.tail = NONE
        close(
            memory,
            q,
            failed_return(tables, request.origin, request.returned_s, request.deadline_s),
        )
    serve(memory, tables, n, i)


@njit(cache=True)
def take_arrival(memory: Memory, tables: Tables, n: int) -> None:
    """The first request in transit joins its queue."""
    node = memory.nodes[n]
    q = node.transit
    request = memory.requests[q]
    node.transit = request.next
    request.next = NONE
    if request.deadline_s <= node.now_s:
        request.arrived_s = np.nan
        expire(memory, tables, n, q)
        return
    request.arrived_s = node.now_s
    request.uplink_s = node.now_s - request.sent_s
    pod = memory.pods[n, request.lm]
    if pod.tail == NONE:
        pod.head = q
    else:
        memory.requests[pod.tail].next = q
    pod.tail = q
    pod.backlog += request.prompts
    if pod.state == POD_READY and not pod.serving:
        serve(memory, tables, n, request.lm)


@njit(cache=True)
def switch_power(memory: Memory, tables: Tables, n: int) -> None:
    """The node goes down, or comes back and starts the pods wanted. Queues and breakpoints are
    on disk and survive."""
    node = memory.nodes[n]
    if node.up:
        node.up = 0
        for i in range(memory.pods.shape[1]):
            pod = memory.pods[n, i]
            if pod.state == POD_READY:
                pause(memory, n, i)
                pod.ready_until_s = node.now_s
            if pod.state != POD_OFF and pod.state != POD_PENDING:
                release(memory, tables, n, i)
    else:
        node.up = 1
        node.outage += 1
        start_pending(memory, tables, n)


@njit(cache=True)
def next_event(memory: Memory, tables: Tables, n: int) -> tuple[float, int, int]:
    """(time, kind, LM) of the node's next event; kinds in the order of the module's docstring."""
    node = memory.nodes[n]
    outage = tables.outages[n, min(node.outage, tables.outages.shape[1] - 1)]
    if node.outage >= tables.outages.shape[1]:
        time_s, kind, lm = inf, 0, 0
    else:
        time_s, kind, lm = outage[0] if node.up else outage[1], 0, 0
    if not node.up:
        return time_s, kind, lm
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        if pod.timer_s < time_s or (pod.timer_s == time_s and kind > 1):
            time_s, kind, lm = pod.timer_s, 1, i
        if pod.serving:
            end_s = node.now_s + pod.left_s / rate(memory, tables, n, i)
            if end_s < time_s or (end_s == time_s and kind > 2):
                time_s, kind, lm = end_s, 2, i
            deadline_s = memory.requests[pod.head].deadline_s
            if deadline_s < time_s or (deadline_s == time_s and kind > 3):
                time_s, kind, lm = deadline_s, 3, i
    if node.transit != NONE:
        arrival_s = max(node.now_s, memory.requests[node.transit].arrived_s)
        if arrival_s < time_s:
            time_s, kind = arrival_s, 4
    return time_s, kind, lm


@njit(cache=True)
def elapse(memory: Memory, tables: Tables, n: int, time_s: float) -> None:
    """Let the node's time pass, without an event, until ``time_s``."""
    node = memory.nodes[n]
    spent_s = time_s - node.now_s
    node.now_s = time_s
    if spent_s <= 0.0:
        return
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        if pod.serving:
            pod.left_s = max(0.0, pod.left_s - spent_s * rate(memory, tables, n, i))
            pod.busy_s += spent_s
            memory.requests[pod.head].inference_s += spent_s
    for g in range(MAX_GPUS):
        if memory.cards[n, g].busy > 0:
            node.gpu_busy_s += spent_s


@njit(cache=True)
def advance(memory: Memory, tables: Tables, n: int, until_s: float) -> None:
    """Run node n's events up to and including ``until_s``."""
    while True:
        time_s, kind, i = next_event(memory, tables, n)
        if time_s > until_s:
            break
        elapse(memory, tables, n, time_s)
        if kind == 0:
            switch_power(memory, tables, n)
        elif kind == 1:
            life_cycle(memory, tables, n, i)
        elif kind == 2:
            end_batch(memory, tables, n, i)
        elif kind == 3:
            pause(memory, n, i)
            serve(memory, tables, n, i)
        else:
            take_arrival(memory, tables, n)
    elapse(memory, tables, n, until_s)


@njit(cache=True)
def advance_all(memory: Memory, tables: Tables, until_s: float) -> None:
    """Run every node to a slot boundary and close what has expired there."""
    for n in range(memory.nodes.shape[0]):
        advance(memory, tables, n, until_s)
        for i in range(memory.pods.shape[1]):
            purge(memory, tables, n, i)
        drop_transit(memory, tables, n)


@njit(cache=True)
def drop_transit(memory: Memory, tables: Tables, n: int) -> None:
    """Close what has expired on its way: a slow link, or a node that is down."""
    node = memory.nodes[n]
    before, q = NONE, node.transit
    while q != NONE:
        after = memory.requests[q].next
        if memory.requests[q].deadline_s <= node.now_s:
            if before == NONE:
                node.transit = after
            else:
                memory.requests[before].next = after
            memory.requests[q].arrived_s = np.nan
            expire(memory, tables, n, q)
        else:
            before = q
        q = after


@njit(cache=True)
def deploy(
    memory: Memory,
    tables: Tables,
    n: int,
    mode: NDArray[np.int64],
    cores: NDArray[np.float64],
    vgpus: NDArray[np.int64],
    voided: NDArray[np.bool_],
) -> None:
    """Make the desired pods of node n so, at its present time. Arrays are (I,); ``voided`` is
    filled with the changes that the Pending rule made void (section V-D)."""
    blocked = False
    for i in range(memory.pods.shape[1]):
        state = memory.pods[n, i].state
        blocked = blocked or state in (POD_PENDING, POD_STOPPING)
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        want_cores = cores[i] if mode[i] != OFF else 0.0
        want_vgpus = vgpus[i] if mode[i] == GPU else 0
        if (
            mode[i] == pod.want_mode
            and want_cores == pod.want_cores
            and want_vgpus == pod.want_vgpus
        ):
            continue
        more = mode[i] != OFF and (
            want_cores > pod.cores + EPSILON
            or want_vgpus > pod.vgpus
            or pod.state == POD_OFF
            or pod.state == POD_PENDING
        )
        if blocked and more:
            voided[i] = True
            continue
        pod.want_mode, pod.want_cores, pod.want_vgpus = mode[i], want_cores, want_vgpus
        if pod.state == POD_STARTING or pod.state == POD_READY:
            stop(memory, tables, n, i)
        elif pod.state == POD_PENDING and mode[i] == OFF:
            pod.state = POD_OFF
        elif pod.state == POD_OFF:
            pod.state = POD_PENDING
    if memory.nodes[n].up:
        start_pending(memory, tables, n)


@njit(cache=True)
def deploy_all(
    memory: Memory,
    tables: Tables,
    at_s: NDArray[np.float64],
    mode: NDArray[np.int64],
    cores: NDArray[np.float64],
    vgpus: NDArray[np.int64],
    voided: NDArray[np.bool_],
) -> None:
    """Bring each node n to ``at_s[n]`` and deploy there. NaN: no deployment for this node."""
    for n in range(memory.nodes.shape[0]):
        if not np.isnan(at_s[n]):
            advance(memory, tables, n, at_s[n])
            deploy(memory, tables, n, mode[n], cores[n], vgpus[n], voided[n])
