"""Memory of the twin: one NumPy record array per kind of thing, shared with the Numba kernel."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]

NONE: Final = -1  # end of a list of requests

REQUEST = np.dtype(
    [
        ("lm", np.int64),
        ("origin", np.int64),
        ("destination", np.int64),
        ("prompts", np.int64),
        ("done", np.int64),  # prompts finished, the breakpoint
        (
            "begun",
            np.int64,
        ),  # prompts that were in a batch; beyond ``done``: in flight, or lost
        ("attempts", np.int64),  # dispatches: 1 once it has left its origin
        ("recomputed", np.int64),  # prompts that were in a batch again after theirs was lost
        ("next", np.int64),  # in the list (transit or queue) that holds the request
        ("failure", np.int64),
        ("closed", np.int64),  # 1: finished or failed, no longer at any node
        ("work", np.float64),
        ("uplink_bytes", np.float64),
        ("downlink_bytes", np.float64),
        ("deadline_s", np.float64),
        ("born_s", np.float64),
        ("sent_s", np.float64),
        ("arrived_s", np.float64),
        ("started_s", np.float64),
        ("finished_s", np.float64),
        ("returned_s", np.float64),
        ("uplink_s", np.float64),
        ("downlink_s", np.float64),  # planned at dispatch; extended while the origin is down
        ("inference_s", np.float64),
    ]
)

POD = np.dtype(
    [
        ("state", np.int64),  # POD_*
        ("mode", np.int64),  # device allocated now
        ("vgpus", np.int64),
        ("cores", np.float64),
        ("gpu_mask", np.int64),  # physical GPUs of the allocated slices
        ("slices", np.int64, (8,)),  # allocated slices per physical GPU
        ("want_mode", np.int64),  # deployment in force
        ("want_vgpus", np.int64),
        ("want_cores", np.float64),
        ("timer_s", np.float64),  # end of starting or stopping
        ("prompt_s", np.float64),  # per reference prompt, undisturbed, as allocated now
        ("ready_until_s", np.float64),  # last moment it was ready, unless it is
        ("head", np.int64),  # FIFO queue; the head is the request in service
        ("tail", np.int64),
        ("backlog", np.int64),  # prompts in the queue not done
        ("serving", np.int64),
        ("batch", np.int64),  # prompts in service together
        ("rate", np.float64),  # progress per second
        ("booked_s", np.float64),  # time up to which service is accounted for
        ("left_s", np.float64),  # undisturbed time left of the batch at ``booked_s``
        ("end_s", np.float64),  # end of the batch at this rate; inf unless serving
        ("limit_s", np.float64),  # deadline of the request in service; inf unless serving
        ("busy_s", np.float64),  # serving, since the last slot boundary
        ("starts", np.int64),  # pod starts of the run
        ("born_requests", np.int64),  # at this node for this LM, since the last slot boundary
        ("born_prompts", np.int64),
    ]
)

NODE = np.dtype(
    [
        ("now_s", np.float64),
        ("up", np.bool_),
        ("outage", np.int64),  # index of the present or next outage
        ("hardware", np.int64),  # row of Tables.cpu_curve
        ("site", np.int64),
        ("gpus", np.int64),
        ("cores", np.float64),
        ("ram_gb", np.float64),
        ("free_cores", np.float64),
        ("free_ram_gb", np.float64),
        ("free_slices", np.int64),
        ("transit", np.int64),  # list of requests on their way, by arrival
        ("latest", np.int64),  # the request last put into that list in this slot
        ("closed", np.int64),  # closed requests that were born here
    ]
)

CARD = np.dtype(
    [
        ("slices", np.int64),
        ("vram_gb", np.float64),
        ("free_slices", np.int64),
        ("free_vram_gb", np.float64),
        ("serving", np.int64),  # pods that serve on it
        ("since_s", np.float64),  # time from which ``busy_s`` is not yet counted
        ("busy_s", np.float64),  # time with a pod serving on it
    ]
)

LM = np.dtype(
    [
        ("ram_gb", np.float64),
        ("vram_gb", np.float64),
        ("start_cpu_s", np.float64),
        ("start_gpu_s", np.float64),
        ("stop_s", np.float64),
        ("batch_max", np.int64, (2,)),  # CPU, GPU
    ]
)


class Tables(NamedTuple):
    """Constants of a run, as arrays for the kernel."""

    lm: Records  # (I,)
    # (H, I, 2, P) cores and seconds of the curve, padded with its last point; NaN seconds where
    # the LM cannot run.
    cpu_curve: NDArray[np.float64]
    gpu_seconds: NDArray[np.float64]  # (N, I, MAX_GPUS) by GPUs spanned - 1; NaN likewise
    batch: NDArray[np.float64]  # (I, 2, B) time factor of a batch of k + 1; CPU, GPU
    outages: NDArray[np.float64]  # (N, O, 2) down and up, ascending, padded with inf
    site_latency_s: float  # of a message within a site
    site_byte_s: float  # per byte
    metro_latency_s: float  # between sites
    metro_byte_s: float
    control_s: float
    switch_loss: float
    serve_late: bool  # the rules (domain/rules.py) that are not the default
    fail_inactive: bool
    static_slices: bool
    stopping_blocks: bool  # this one is the default


class Memory(NamedTuple):
    """Changing state of a run."""

    requests: Records  # (R,)
    pods: Records  # (N, I)
    nodes: Records  # (N,)
    cards: Records  # (N, MAX_GPUS); absent GPUs have no slices


World = tuple[tuple[Any, ...], tuple[Any, ...]]  # the fields of a Memory and of a Tables
