"""A digest of the code that decides a run's results, so that edited code is noticed.

A run's id follows from its experiment: names and numbers, not the code behind a name. Someone who
works on a strategy runs it again and again in one folder; without this digest the campaign would
keep the runs of the former code in silence.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from functools import cache
from pathlib import Path
from typing import Final

from controller import strategies
from controller.inputs.catalog import template_dir

PACKAGE: Final = "controller"
WORLD: Final = (  # what every strategy meets
    "controller.loop",
    "controller.twin.cluster",
    "controller.twin.records",
    "controller.workloads.spec",
)
DIGITS: Final = 12


@cache
def code_digest(strategy: str) -> str:
    """Return how the SHA-256 over the source of a strategy's parts begins, with all that they
    import from this package, the twin, the loop and, for agents, the templates.

    Raises:
        InputError: unknown strategy.
    """
    recipe = strategies.recipe(strategy)
    factories = (
        strategies.PLANNERS[recipe.planner],
        strategies.SCHEDULERS[recipe.scheduler],
        strategies.DEPLOYERS[recipe.deployer],
    )
    roots = set(WORLD)
    digest = hashlib.sha256()
    for factory in factories:
        digest.update(inspect.getsource(factory).encode())
        named = inspect.getclosurevars(factory).globals.values()
        roots |= {module for part in named if (module := getattr(part, "__module__", None))}
    # strategies.py names every strategy: a new one there changes none of the others.
    for path in _sources(frozenset(roots - {strategies.__name__})):
        digest.update(path.read_bytes())
    if recipe.has_agents:
        for template in sorted((template_dir() / "prompts").rglob("*.j2")):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:DIGITS]


def _sources(roots: frozenset[str]) -> list[Path]:
    """Return the files of ``roots`` and of what they import from this package, in one order."""
    found: dict[str, Path] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name == strategies.__name__ or not name.startswith(f"{PACKAGE}."):
            continue
        path = _source(name)
        if path is not None:
            found[name] = path
            waiting += _imports(path)
    return [found[name] for name in sorted(found)]


@cache
def _source(module: str) -> Path | None:
    """Return the file of a module; None if the name is that of something inside a module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Return the names that a file imports; ``from a import b`` gives both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(names))
