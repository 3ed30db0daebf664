"""SimPy with an order among the kinds of event that happen at one instant."""

from __future__ import annotations

from typing import Final

import simpy

# Priorities, all above SimPy's own (0 and 1), so that what an event sets off at once comes before
# the next kind. LMs and requests are added to the base of theirs.
POWER: Final = 10
TIMER: Final = 1_000
BATCH_END: Final = 2_000
DEADLINE: Final = 3_000
ARRIVAL: Final = 1_000_000
COMMAND: Final = 1_000_000_000
OBSERVE: Final = 2_000_000_000


class Agenda(simpy.Environment):
    """An environment whose time-outs are of a kind."""

    def at(self, time_s: float, kind: int) -> simpy.Event:
        """An event of this kind at ``time_s``."""
        return self.after(time_s - self.now, kind)

    def after(self, delay_s: float, kind: int) -> simpy.Event:
        """An event of this kind in ``delay_s``."""
        event = simpy.Event(self)
        event._ok, event._value = True, None  # triggered, as a Timeout is from the start
        self.schedule(event, priority=kind, delay=delay_s)  # type: ignore[arg-type]
        return event
