"""The network block of a testbed file."""

from __future__ import annotations

from pydantic import Field

from controller.domain import testbed as domain
from controller.inputs.fields import Positive, Record, Seconds, Sourced


class Link(Sourced):
    """Link between two nodes: a transfer takes ``latency_s + bytes * 8 / bandwidth``."""

    bandwidth_gbps: Positive
    latency_s: Seconds = Field(description="one way, seconds, 0 to 1e6")


class Control(Sourced):
    """Delay from a decision to its coming into force."""

    seconds: Seconds


class Network(Record):
    """Links between two nodes of one site, and between sites."""

    site: Link
    metro: Link
    control: Control

    def to_domain(self) -> domain.Network:
        return domain.Network(
            site_bandwidth_gbps=self.site.bandwidth_gbps,
            site_latency_s=self.site.latency_s,
            metro_bandwidth_gbps=self.metro.bandwidth_gbps,
            metro_latency_s=self.metro.latency_s,
            control_s=self.control.seconds,
        )
