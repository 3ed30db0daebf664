"""One error for whatever is wrong with a run's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controller.domain.errors import InputError
from controller.results.run import Run


@contextmanager
def reading(run: Run, name: str) -> Iterator[None]:
    """Raise InputError, naming the run's file, where its content is not what the format says."""
    import polars as pl

    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, pl.exceptions.PolarsError) as error:
        first_line = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(
            f"runs/{run.id}/{name}", f"cannot be read, so figures and tables lack it: {first_line}"
        ) from error
