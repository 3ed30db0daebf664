"""Metrics of a server in Prometheus' text format."""

from __future__ import annotations

from lm_server.serving import REASONS, Serving

OUTCOMES = ("done", "deadline", "cancelled", "engine_error")


def metrics(serving: Serving) -> str:
    """Return the text of a scrape."""
    counts = serving.counts
    phases = serving.engine.phases if serving.engine else {}
    rows: list[tuple[str, str, str, dict[str, float]]] = [
        ("edgelm_engine_threads", "gauge", "Threads that the CPU quota allows.",
         {"": serving.threads}),
        ("edgelm_engine_load_seconds", "gauge", "Time that loading the engine took, by phase.",
         {f'{{phase="{one}"}}': seconds for one, seconds in sorted(phases.items())}),
        ("edgelm_engine_busy_seconds_total", "counter", "Time that the engine computed.",
         {"": serving.busy_s}),
        ("edgelm_engine_prompts_total", "counter", "Prompts computed.", {"": counts["prompts"]}),
        ("edgelm_engine_errors_total", "counter", "Requests given up, by reason.",
         {f'{{reason="{one}"}}': counts[f"errors_{one}"] for one in REASONS}),
        ("edgelm_worker_restarts_total", "counter", "Worker processes that were lost.",
         {"": counts["worker_restarts"]}),
        ("edgelm_queue_prompts", "gauge", "Prompts that are not computed yet.",
         {"": serving.waiting_prompts}),
        ("edgelm_disk_full", "gauge", "1 while the disk takes no results.",
         {"": bool(serving.disk_error)}),
        ("edgelm_requests_ended_total", "counter", "Requests by how they ended.",
         {f'{{outcome="{one}"}}': counts[f"requests_{one}"] for one in OUTCOMES}),
    ]  # fmt: skip
    lines = []
    for name, kind, help_text, samples in rows:
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {float(value)!r}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"
