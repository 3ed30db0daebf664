"""Event kernel of the twin, one node at a time between slot boundaries. Rules: docs/twin.md.

Compiled by Numba, so records are changed in place and nothing is allocated per event. At one
instant events happen in this order: node up or down, pod life cycle (by LM), batch ends (by LM),
deadlines (by LM), arrivals (by request). Commands given at that instant follow.

The kernel is one file, except the Pending rule, which is :mod:`controller.domain.pending`,
compiled. The code is cached in a folder named after the contents of all files compiled in
(``SOURCES``), since Numba itself detects changes of the entry points' own file only. The entry
points (``dispatch``, ``deploy_all``, ``advance_all``) take the twin's ``World`` as plain tuples:
Numba looks up a named tuple's type in Python at every call, which takes longer than the call.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controller.domain import pending, requests, state, testbed
from controller.domain.pending import SLACK
from controller.domain.requests import DEADLINE, LOST_NODE, NOT_DEPLOYED, REFUSED
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
from controller.domain.testbed import MAX_GPUS
from controller.twin import layout
from controller.twin.cache import folder_for, kept, roots
from controller.twin.layout import (
    NONE,
    Memory,
    Tables,
    World,
)

# The files whose functions or constants are compiled in.
SOURCES = [Path(str(m.__file__)) for m in (layout, pending, requests, state, testbed)]
SOURCES.append(Path(__file__))
CACHE = folder_for(SOURCES, roots())

# Kinds of event, in the order in which they happen at one instant.
POWER, TIMER, BATCH_END, LIMIT, ARRIVAL = 0, 1, 2, 3, 4


F = TypeVar("F", bound=Callable[..., Any])


def entry(function: F) -> F:
    """Compile a function to be called from Python, and cache it with all that it calls."""
    return kept(function, CACHE)


def compiled(function: F) -> F:
    """Compile a function to be called from the kernel."""
    return cast("F", njit()(function))


def inlined(function: F) -> F:
    """Compile a function into its callers; for steps of every event."""
    return cast("F", njit(forceinline=True)(function))


blocks = compiled(pending.blocks)
needs_more = compiled(pending.needs_more)
is_void = compiled(pending.is_void)


@compiled
def outage_at(tables: Tables, n: int, time_s: float) -> int:
    """Return the index of the outage of node n that covers ``time_s``, or NONE."""
    for o in range(tables.outages.shape[1]):
        if time_s < tables.outages[n, o, 0]:
            return NONE
        if time_s < tables.outages[n, o, 1]:
            return o
    return NONE


@compiled
def heard_s(tables: Tables, n: int, time_s: float) -> float:
    """Return the time at which node n takes a message that reaches it at ``time_s``: at once, or
    when the node recovers."""
    o = outage_at(tables, n, time_s)
    return time_s if o == NONE else tables.outages[n, o, 1]


@compiled
def transfer_s(memory: Memory, tables: Tables, a: int, b: int, size_bytes: float) -> float:
    """Return the seconds that a message takes between nodes a and b."""
    if a == b:
        return 0.0
    if memory.nodes[a].site == memory.nodes[b].site:
        return tables.site_latency_s + tables.site_byte_s * size_bytes
    return tables.metro_latency_s + tables.metro_byte_s * size_bytes


@entry
def dispatch(
    world: World,
    first: int,
    last: int,
    destination: NDArray[np.int64],
    ready_s: float,
) -> None:
    """Send requests ``first <= q < last``, the slot's births, to their ``destination`` (N, I), not
    before ``ready_s``. Close refused ones.

    Raises:
        IndexError: a destination is not a node of the testbed.
    """
    memory, tables = Memory(*world[0]), Tables(*world[1])
    for n in range(memory.nodes.shape[0]):
        memory.nodes[n].latest = NONE
    for q in range(first, last):
        request = memory.requests[q]
        n = destination[request.origin, request.lm]
        if not NONE <= n < memory.nodes.shape[0]:
            raise IndexError("the routing plan names a node that the testbed does not have")
        born_at = memory.pods[request.origin, request.lm]
        born_at.born_requests += 1
        born_at.born_prompts += request.prompts
        request.destination = n
        if n == NONE:
            close(memory, q, REFUSED)
            continue
        request.uplink_s = transfer_s(memory, tables, request.origin, n, request.uplink_bytes)
        request.downlink_s = transfer_s(memory, tables, request.origin, n, request.downlink_bytes)
        request.sent_s = heard_s(tables, request.origin, max(request.born_s, ready_s))
        request.arrived_s = request.sent_s + request.uplink_s
        if request.sent_s < request.deadline_s:
            request.attempts = 1
        set_out(memory, n, q)


@compiled
def set_out(memory: Memory, n: int, q: int) -> None:
    """Put request q into node n's list of requests in transit, sorted by arrival, then by id.
    Requests are put in order of birth, so the place of q is mostly just behind the previous
    one's."""
    request, latest = memory.requests[q], memory.nodes[n].latest
    memory.nodes[n].latest = q
    before, after = NONE, memory.nodes[n].transit
    if latest != NONE and memory.requests[latest].arrived_s <= request.arrived_s:
        before, after = latest, memory.requests[latest].next
    while after != NONE and memory.requests[after].arrived_s <= request.arrived_s:
        before, after = after, memory.requests[after].next
    request.next = after
    if before == NONE:
        memory.nodes[n].transit = q
    else:
        memory.requests[before].next = q


@compiled
def close(memory: Memory, q: int, failure: int) -> None:
    """Close request q with the code of its failure, 0 for success; it is at no node any longer."""
    memory.requests[q].next = NONE
    decide(memory, q, failure)


@compiled
def decide(memory: Memory, q: int, failure: int) -> None:
    """Give request q its outcome, wherever it is."""
    request = memory.requests[q]
    request.failure = failure
    request.closed = 1
    memory.nodes[request.origin].closed += 1


@compiled
def expire(memory: Memory, tables: Tables, n: int, q: int) -> None:
    """Close request q, bound for node n and past its deadline, with the reason of its failure."""
    close(memory, q, reason_of_lateness(memory, tables, n, q))


@compiled
def fail_late(memory: Memory, tables: Tables, n: int, q: int) -> None:
    """Give request q, past its deadline in a queue of node n, its failure. It stays in the queue,
    as the rule ``late: serve`` has it."""
    if not memory.requests[q].closed:
        decide(memory, q, reason_of_lateness(memory, tables, n, q))


@compiled
def reason_of_lateness(memory: Memory, tables: Tables, n: int, q: int) -> int:
    """Return the failure of request q, bound for node n and past its deadline."""
    request = memory.requests[q]
    pod = memory.pods[n, request.lm]
    holder = request.origin if request.deadline_s <= request.sent_s else n
    if outage_at(tables, holder, request.deadline_s) != NONE:
        return LOST_NODE
    if (
        not np.isnan(request.arrived_s)
        and np.isnan(request.started_s)
        and pod.state != POD_READY
        and not (pod.ready_until_s >= request.arrived_s)
    ):
        return NOT_DEPLOYED
    return DEADLINE


@compiled
def share(memory: Memory, tables: Tables, n: int, i: int) -> float:
    """Return the progress per second of pod i, which serves on GPUs: that of the GPU with the most
    serving pods, or of the one on which it has the least part of the slices."""
    pod = memory.pods[n, i]
    most, least = 1, 1.0
    for g in range(memory.nodes[n].gpus):
        if pod.gpu_mask >> g & 1:
            most = max(most, memory.cards[n, g].serving)
            least = min(least, pod.slices[g] / memory.cards[n, g].slices)
    if tables.static_slices:
        return least
    return 1.0 if most == 1 else (1.0 - tables.switch_loss) / most


@inlined
def book(memory: Memory, n: int, i: int) -> None:
    """Account for a pod's service until now."""
    pod = memory.pods[n, i]
    spent_s = memory.nodes[n].now_s - pod.booked_s
    pod.booked_s += spent_s
    pod.left_s -= spent_s * pod.rate
    pod.busy_s += spent_s
    if not memory.requests[pod.head].closed:
        memory.requests[pod.head].inference_s += spent_s


@compiled
def book_card(memory: Memory, n: int, g: int) -> None:
    """Account for a GPU's busy time until now."""
    card, now_s = memory.cards[n, g], memory.nodes[n].now_s
    if card.serving > 0:
        card.busy_s += now_s - card.since_s
    card.since_s = now_s


@compiled
def occupy(memory: Memory, tables: Tables, n: int, i: int, change: int) -> None:
    """Count one serving pod more (``change`` 1) or less (-1) on pod i's GPUs, and change the rate
    of all pods that serve there."""
    mask = memory.pods[n, i].gpu_mask
    # Book each GPU's busy time at the old count before the count changes.
    for g in range(memory.nodes[n].gpus):
        if mask >> g & 1:
            book_card(memory, n, g)
            memory.cards[n, g].serving += change
    # Every pod that serves on one of these GPUs books its progress at the old rate, then gets the
    # new rate and with it a new end of its batch.
    for k in range(memory.pods.shape[1]):
        pod = memory.pods[n, k]
        if pod.serving and pod.gpu_mask & mask:
            book(memory, n, k)
            pod.rate = share(memory, tables, n, k)
            pod.end_s = pod.booked_s + max(0.0, pod.left_s) / pod.rate


@compiled
def pause(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Stop pod i's service. The unfinished batch is lost; finished prompts are not."""
    if memory.pods[n, i].serving:
        book(memory, n, i)
        rest(memory, tables, n, i)


@compiled
def rest(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """End the service of pod i, which is already booked."""
    pod = memory.pods[n, i]
    pod.serving = 0
    pod.end_s = pod.limit_s = inf
    if pod.gpu_mask:
        occupy(memory, tables, n, i, -1)


@inlined
def serve(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Start the next batch of a ready pod, whose service is booked: from the first request of its
    queue that is live, or that the rules have served late, or rest if there is none."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    # Requests past their deadline at the head of the queue are closed, not served.
    while pod.head != NONE and memory.requests[pod.head].deadline_s <= now_s:
        if tables.serve_late:
            fail_late(memory, tables, n, pod.head)
            break
        drop_head(memory, tables, n, i)
    if pod.head == NONE:
        if pod.serving:
            rest(memory, tables, n, i)
        return
    request = memory.requests[pod.head]
    if np.isnan(request.started_s) and not request.closed:
        request.started_s = now_s
    # The next batch: as many of its prompts as the device takes at once, from the breakpoint on.
    device = pod.mode - CPU
    pod.batch = min(tables.lm[i].batch_max[device], request.prompts - request.done)
    pod.left_s = pod.prompt_s * request.work * tables.batch[i, device, pod.batch - 1]
    pod.limit_s, pod.booked_s = inf if request.closed else request.deadline_s, now_s
    # Prompts beyond the breakpoint that were in a batch before are computed again.
    if not request.closed:
        request.recomputed += min(pod.batch, request.begun - request.done)
    request.begun = max(request.begun, request.done + pod.batch)
    # A pod that goes on serving keeps its rate; one that begins changes its neighbours' rates.
    if pod.serving:
        pod.end_s = now_s + pod.left_s / pod.rate
        return
    pod.serving, pod.rate, pod.end_s = 1, 1.0, now_s + pod.left_s
    if pod.gpu_mask:
        occupy(memory, tables, n, i, 1)


@compiled
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


@compiled
def purge(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Expire every waiting request that is past its deadline; those that the rules have served late
    stay. A request in service has a deadline event of its own."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    before = NONE
    q = pod.head
    if pod.serving:
        before, q = q, memory.requests[q].next
    # Walk the linked queue and cut out late requests; ``before`` is the last one that stays.
    while q != NONE:
        request = memory.requests[q]
        after = request.next
        if request.deadline_s <= now_s and tables.serve_late:
            fail_late(memory, tables, n, q)
            before = q
        elif request.deadline_s <= now_s:
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


@compiled
def place(memory: Memory, tables: Tables, n: int, i: int) -> bool:
    """Choose the pending pod's slices, spread over the GPUs with the most free slices, as one kind
    of device plugin does. Return False and change nothing if slices or GPU memory are lacking."""
    pod = memory.pods[n, i]
    # The pod spans one GPU per slice, but only GPUs with a free slice; each takes an equal part of
    # its memory.
    usable = 0
    for g in range(memory.nodes[n].gpus):
        usable += memory.cards[n, g].free_slices > 0
    spanned = min(pod.want_vgpus, usable)
    if spanned == 0:
        return False
    vram_gb = tables.lm[i].vram_gb / spanned
    # One slice at a time, first one on each GPU to span, then the rest on those GPUs.
    mask, held = 0, 0
    while held < pod.want_vgpus:
        best = NONE
        for g in range(memory.nodes[n].gpus):
            card = memory.cards[n, g]
            chosen = mask >> g & 1
            fresh = held < spanned
            room = card.free_slices - pod.slices[g]
            if room <= 0 or chosen == fresh or (fresh and card.free_vram_gb < vram_gb - SLACK):
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


@compiled
def tally(memory: Memory, tables: Tables, n: int) -> None:
    """Recount the node's free resources from its pods, since running sums of fractions drift."""
    node = memory.nodes[n]
    node.free_cores, node.free_ram_gb, node.free_slices = node.cores, node.ram_gb, 0
    for g in range(memory.nodes[n].gpus):
        card = memory.cards[n, g]
        card.free_slices, card.free_vram_gb = card.slices, card.vram_gb
        node.free_slices += card.slices
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        if pod.mode == OFF:
            continue
        node.free_cores -= pod.cores
        node.free_ram_gb -= tables.lm[i].ram_gb
        node.free_slices -= pod.vgpus
        for g in range(memory.nodes[n].gpus):
            if pod.gpu_mask >> g & 1:
                memory.cards[n, g].free_slices -= pod.slices[g]
                memory.cards[n, g].free_vram_gb -= tables.lm[i].vram_gb / ones(pod.gpu_mask)


@compiled
def ones(mask: int) -> int:
    """Return the number of GPUs in a mask."""
    count = 0
    for g in range(MAX_GPUS):
        count += mask >> g & 1
    return count


@compiled
def cpu_prompt_s(tables: Tables, hardware: int, i: int, cores: float) -> float:
    """Return the seconds per reference prompt on a CPU, as
    :meth:`controller.domain.profile.Curve.at` does; NaN without cores."""
    xs, ys = tables.cpu_curve[hardware, i, 0], tables.cpu_curve[hardware, i, 1]
    if cores <= 0.0:
        return np.nan
    if cores < xs[0]:
        return float(ys[0] * xs[0] / cores)
    return float(np.interp(cores, xs, ys))


@compiled
def start_pending(memory: Memory, tables: Tables, n: int) -> None:
    """Start every pending pod whose resources are free, in LM order."""
    node = memory.nodes[n]
    for i in range(memory.pods.shape[1]):
        pod, lm = memory.pods[n, i], tables.lm[i]
        if pod.state != POD_PENDING:
            continue
        # Without its cores and RAM the pod waits; later LMs are tried all the same.
        if pod.want_cores > node.free_cores + SLACK or lm.ram_gb > node.free_ram_gb + SLACK:
            continue
        # A pod's speed is fixed when it starts; a pod whose LM has no times here never starts.
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
        # The pod has its resources from now on, before it serves.
        pod.mode, pod.vgpus, pod.cores = pod.want_mode, pod.want_vgpus, pod.want_cores
        pod.state = POD_STARTING
        pod.starts += 1
        tally(memory, tables, n)


@compiled
def release(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Release the resources of a pod that has ended."""
    pod = memory.pods[n, i]
    pod.slices[:] = 0
    pod.mode, pod.vgpus, pod.cores, pod.gpu_mask = OFF, 0, 0.0, 0
    pod.timer_s = inf
    pod.state = POD_OFF if pod.want_mode == OFF else POD_PENDING
    tally(memory, tables, n)


@compiled
def life_cycle(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Make a starting pod ready, or end a stopping one, when its timer runs out."""
    pod = memory.pods[n, i]
    if pod.state == POD_STARTING:
        purge(memory, tables, n, i)
        pod.state = POD_READY
        pod.timer_s = inf
        serve(memory, tables, n, i)
    else:
        release(memory, tables, n, i)
        start_pending(memory, tables, n)


@compiled
def stop(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Begin the termination of a starting or ready pod."""
    pod = memory.pods[n, i]
    now_s = memory.nodes[n].now_s
    if pod.state == POD_READY:
        pause(memory, tables, n, i)
        pod.ready_until_s = now_s
    pod.state = POD_STOPPING
    pod.timer_s = now_s + tables.lm[i].stop_s


@compiled
def failed_return(tables: Tables, origin: int, returned_s: float, deadline_s: float) -> int:
    """Return the failure of a result that is back at ``returned_s``; 0 if in time."""
    if returned_s <= deadline_s:
        return 0
    return DEADLINE if outage_at(tables, origin, deadline_s) == NONE else LOST_NODE


@compiled
def send_back(memory: Memory, tables: Tables, n: int, q: int) -> None:
    """Close request q, finished on node n now. Its result travels back, and waits there while the
    origin is down."""
    request, now_s = memory.requests[q], memory.nodes[n].now_s
    request.finished_s = now_s
    request.returned_s = heard_s(tables, request.origin, now_s + request.downlink_s)
    request.downlink_s = request.returned_s - now_s
    failure = failed_return(tables, request.origin, request.returned_s, request.deadline_s)
    close(memory, q, failure)


@inlined
def end_batch(memory: Memory, tables: Tables, n: int, i: int) -> None:
    """Record a finished batch, return the result if it was the request's last, and serve on."""
    pod = memory.pods[n, i]
    q = pod.head
    request = memory.requests[q]
    # The checkpoint: these prompts are never computed again.
    book(memory, n, i)
    request.done += pod.batch
    pod.backlog -= pod.batch
    if request.done == request.prompts:
        pod.head = request.next
        if pod.head == NONE:
            pod.tail = NONE
        if request.closed:  # served late: nobody waits for the result
            request.next = NONE
        else:
            send_back(memory, tables, n, q)
    serve(memory, tables, n, i)


@inlined
def take_arrival(memory: Memory, tables: Tables, n: int) -> None:
    """Move the first request in transit into its pod's queue, or expire it if it is late."""
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
    if tables.fail_inactive and pod.want_mode == OFF:
        close(memory, q, NOT_DEPLOYED)
        return
    if pod.tail == NONE:
        pod.head = q
    else:
        memory.requests[pod.tail].next = q
    pod.tail = q
    pod.backlog += request.prompts
    if pod.state == POD_READY and not pod.serving:
        serve(memory, tables, n, request.lm)


@compiled
def switch_power(memory: Memory, tables: Tables, n: int) -> None:
    """Take the node down, or bring it up and start the wanted pods. Queues and breakpoints are on
    disk and survive."""
    node = memory.nodes[n]
    if node.up:
        node.up = False
        for i in range(memory.pods.shape[1]):
            pod = memory.pods[n, i]
            if pod.state == POD_READY:
                pause(memory, tables, n, i)
                pod.ready_until_s = node.now_s
            if pod.state != POD_OFF and pod.state != POD_PENDING:
                release(memory, tables, n, i)
    else:
        node.up = True
        node.outage += 1
        start_pending(memory, tables, n)


@inlined
def next_event(memory: Memory, tables: Tables, n: int) -> tuple[float, int, int]:
    """Return (time, kind, LM) of the node's next event."""
    node = memory.nodes[n]
    # Power first, then the pods in LM order, then arrivals: at one instant the earlier kind wins,
    # and within a kind the first LM.
    time_s, kind, lm = inf, POWER, 0
    if node.outage < tables.outages.shape[1]:
        time_s = tables.outages[n, node.outage, 0 if node.up else 1]
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        if pod.timer_s < time_s or (pod.timer_s == time_s and kind > TIMER):
            time_s, kind, lm = pod.timer_s, TIMER, i
        if pod.end_s < time_s or (pod.end_s == time_s and kind > BATCH_END):
            time_s, kind, lm = pod.end_s, BATCH_END, i
        if pod.limit_s < time_s:
            time_s, kind, lm = pod.limit_s, LIMIT, i
    if node.transit != NONE and node.up:
        arrival_s = max(node.now_s, memory.requests[node.transit].arrived_s)
        if arrival_s < time_s:
            time_s, kind = arrival_s, ARRIVAL
    return time_s, kind, lm


@compiled
def advance(memory: Memory, tables: Tables, n: int, until_s: float) -> None:
    """Run node n's events up to and including ``until_s``."""
    node = memory.nodes[n]
    while True:
        time_s, kind, i = next_event(memory, tables, n)
        if time_s > until_s:
            break
        node.now_s = time_s
        if kind == POWER:
            switch_power(memory, tables, n)
        elif kind == TIMER:
            life_cycle(memory, tables, n, i)
        elif kind == BATCH_END:
            end_batch(memory, tables, n, i)
        elif kind == LIMIT:
            book(memory, n, i)
            if tables.serve_late:
                fail_late(memory, tables, n, memory.pods[n, i].head)
                memory.pods[n, i].limit_s = inf
            else:
                serve(memory, tables, n, i)
        else:
            take_arrival(memory, tables, n)
    node.now_s = max(node.now_s, until_s)


@entry
def advance_all(
    world: World,
    until_s: float,
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
) -> None:
    """Run every node to a slot boundary, close requests that have expired, and write each pod's
    observation to ``ints`` (9, N, I) and ``floats`` (3, N, I), see :func:`note`."""
    memory, tables = Memory(*world[0]), Tables(*world[1])
    for n in range(memory.nodes.shape[0]):
        advance(memory, tables, n, until_s)
        # At the boundary: close expired requests in queues, book service that goes on, note.
        for i in range(memory.pods.shape[1]):
            purge(memory, tables, n, i)
            if memory.pods[n, i].serving:
                book(memory, n, i)
            note(memory.pods[n, i], ints[:, n, i], floats[:, n, i])
        for g in range(memory.nodes[n].gpus):
            book_card(memory, n, g)
        drop_transit(memory, tables, n)


@compiled
def note(pod: Any, ints: NDArray[np.int64], floats: NDArray[np.float64]) -> None:
    """Write a pod's observation to ``ints`` (9,) and ``floats`` (3,), and set its counts per slot
    back to 0."""
    ints[0], ints[1], ints[2], ints[3] = pod.state, pod.mode, pod.vgpus, pod.gpu_mask
    ints[4], ints[5] = pod.want_mode, pod.want_vgpus
    ints[6], ints[7], ints[8] = pod.backlog, pod.born_requests, pod.born_prompts
    floats[0], floats[1], floats[2] = pod.cores, pod.want_cores, pod.busy_s
    pod.born_requests = pod.born_prompts = 0
    pod.busy_s = 0.0


@compiled
def drop_transit(memory: Memory, tables: Tables, n: int) -> None:
    """Close requests that have expired in transit, on a slow link or to a node that is down."""
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


@compiled
def deploy(
    memory: Memory,
    tables: Tables,
    n: int,
    mode: NDArray[np.int64],
    cores: NDArray[np.float64],
    vgpus: NDArray[np.int64],
    voided: NDArray[np.bool_],
) -> None:
    """Apply the desired pods of node n at its present time. Arrays are (I,); set ``voided`` where
    the Pending rule voids a change (section V-D)."""
    # Judge once, before any change, if the node is blocked.
    blocked = False
    for i in range(memory.pods.shape[1]):
        blocked = blocked or blocks(memory.pods[n, i].state, tables.stopping_blocks)
    for i in range(memory.pods.shape[1]):
        pod = memory.pods[n, i]
        want_cores = cores[i] if mode[i] != OFF else 0.0
        want_vgpus = vgpus[i] if mode[i] == GPU else 0
        # Skip LMs whose desired pod is unchanged.
        if (
            mode[i] == pod.want_mode
            and want_cores == pod.want_cores
            and want_vgpus == pod.want_vgpus
        ):
            continue
        more = needs_more(pod.state, pod.cores, pod.vgpus, mode[i], want_cores, want_vgpus)
        if is_void(blocked, more):
            voided[i] = True
            continue
        # Take over the change: a running pod stops first, as with Kubernetes' Recreate.
        pod.want_mode, pod.want_cores, pod.want_vgpus = mode[i], want_cores, want_vgpus
        if pod.state == POD_STARTING or pod.state == POD_READY:
            stop(memory, tables, n, i)
        elif pod.state == POD_PENDING and mode[i] == OFF:
            pod.state = POD_OFF
        elif pod.state == POD_OFF:
            pod.state = POD_PENDING
    if memory.nodes[n].up:
        start_pending(memory, tables, n)


@entry
def deploy_all(
    world: World,
    boundary_s: float,
    next_boundary_s: float,
    thought_s: NDArray[np.float64],
    mode: NDArray[np.int64],
    cores: NDArray[np.float64],
    vgpus: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Run each node n to the moment at which its command comes into force, and deploy there.
    ``thought_s`` (N,) is NaN for nodes without a command.

    Returns:
        (N, I) True where the Pending rule voided a change.
    """
    memory, tables = Memory(*world[0]), Tables(*world[1])
    voided = np.zeros(mode.shape, np.bool_)
    for n in range(memory.nodes.shape[0]):
        if not np.isnan(thought_s[n]):
            in_force_s = boundary_s + thought_s[n] + tables.control_s
            advance(memory, tables, n, min(in_force_s, next_boundary_s))
            deploy(memory, tables, n, mode[n], cores[n], vgpus[n], voided[n])
    return voided
