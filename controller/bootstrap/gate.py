"""The health gate of a testbed: nothing begins before everything that it needs is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from controller.bootstrap.condition import Finding
from controller.domain.errors import Permanent

LOOK_S: Final = 2.0


def pass_gate(
    examine: Callable[[], Iterator[Finding]],
    patience_s: float,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once every finding is well; examine again until then.

    A testbed that somebody has just brought up pulls images and starts daemons for minutes. What
    is wrong is told once, and again when it changes.

    Raises:
        Permanent: something is still wrong after ``patience_s``; says what, and what to do.
    """
    end_s = time.monotonic() + patience_s
    known: set[str] = set()
    while True:
        wrong = {_line(one) for one in examine() if not one.ok}
        if not wrong:
            return
        for line in sorted(wrong - known):
            tell(f"waiting: {line}")
        known = wrong
        if time.monotonic() + LOOK_S > end_s:
            raise Permanent(
                f"the testbed is not well after {patience_s:g} s: {'; '.join(sorted(wrong))}"
            )
        sleep(LOOK_S)


def _line(one: Finding) -> str:
    return f"{one.what}: {one.found}{f' -> {one.remedy}' if one.remedy else ''}"
