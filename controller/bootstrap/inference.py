"""Inference from facts: simulates the sampler's worlds, keeps them, and writes what was found."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import yaml

from controller.bootstrap.twin import simulate, warm_up
from controller.campaigns.experiment import Experiment
from controller.campaigns.facts import FactsFile, Quantity, World, load_facts, scaled
from controller.domain.errors import InputError
from controller.inference.analysis import Accepted, Found, analyse
from controller.inference.page import Check, write_page
from controller.inference.search import BATCH, Sample, distances_of, propose, value_of
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.profile import ProfileFile
from controller.results.summary import figures
from controller.strategies import resolved_parameters
from controller.workloads.spec import load_workload

SAMPLES: Final = "samples.jsonl"
SETUP: Final = "setup.json"
WORLDS: Final = "worlds"
INFERRED: Final = "Inferred from published aggregates, not measured"
SEED: Final = 0  # of the worlds' arrivals in the search
CHECKED: Final = (1, 2)  # seeds on which the nearest worlds are run again

Figures = dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Samples so far; ``most`` facts held together in one of them. ``left_s`` is None at first."""

    done: int
    samples: int
    most: int
    facts: int
    left_s: float | None


def infer(
    name_or_path: str | Path,
    out: Path,
    samples: int,
    seed: int = 0,
    jobs: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
) -> tuple[FactsFile, Found]:
    """Search for the worlds in which the facts hold, from where an earlier search in the folder
    ``out`` ended; write its page and the nearest worlds' profiles there.

    Raises:
        InputError: the facts are malformed, or ``out`` is of another search or damaged.
    """
    file, content = load_facts(name_or_path)
    setup = {"facts": sha256(content).hexdigest(), "seed": seed, "samples": samples}
    _take_folder(out, setup)
    found = _read(out / SAMPLES, file)
    del found[samples:]
    for one in _search(file, found, out, samples, seed, jobs, report):
        found.append(one)
    result = analyse(file, found)
    checks = [_check(file, one, k, out) for k, one in enumerate(result.accepted, 1)]
    write_page(out, file, result, found, checks)
    return file, result


def _search(
    file: FactsFile,
    found: list[Sample],
    out: Path,
    samples: int,
    seed: int,
    jobs: int,
    report: Callable[[Progress], None],
) -> Iterator[Sample]:
    """Yield the samples that ``found`` lacks, each kept before it is yielded."""
    begun_s, first = time.monotonic(), len(found)
    if first >= samples:
        return
    with _workers(jobs) as over, (out / SAMPLES).open("a", encoding="utf-8") as kept:
        while len(found) < samples:
            done = len(found)
            begin = done - done % BATCH
            numbers = range(done, min(samples, begin + BATCH))
            worlds = [propose(file, seed, k, samples, found[:begin]) for k in numbers]
            texts = [world.model_dump_json() for world in worlds]
            tasks = [file.model_dump_json()] * len(texts)
            made = over(_evaluate, tasks, texts)
            for k, world, text in zip(numbers, worlds, made, strict=True):
                of_world: Figures = json.loads(text)
                line = {"number": k, "world": world.model_dump(), "figures": of_world}
                kept.write(json.dumps(line, sort_keys=True) + "\n")
                kept.flush()
                yield Sample(k, world, of_world, distances_of(file, of_world))
            now = len(found)
            spent_s = time.monotonic() - begun_s
            most = max(int((one.distances <= 1).sum()) for one in found)
            left_s = spent_s / (now - first) * (samples - now) if now > first else None
            report(Progress(now, samples, most, len(file.facts), left_s))


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterable[str]]]:
    """Yield a ``map``: over processes, or here if there is but one job."""
    if jobs == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin_worker) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and compile the twin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm_up()


def _evaluate(file_text: str, world_text: str) -> str:
    file = _file_of(file_text)
    world = World.model_validate_json(world_text)
    return json.dumps(_figures(file, world, file.strategies, SEED))


@lru_cache(maxsize=1)
def _file_of(text: str) -> FactsFile:
    return FactsFile.model_validate_json(text)


@lru_cache(maxsize=4)
def _inputs(testbed: str, profile: str, workload: str) -> tuple[Any, ...]:
    return load_testbed(testbed), load_profile(profile), load_workload(workload)


def _figures(file: FactsFile, world: World, names: tuple[str, ...], seed: int) -> Figures:
    """Return a world's figures by strategy, LMs' as LM.figure."""
    testbed, profile, workload = _inputs(file.testbed, file.profile, file.workload)
    found: Figures = {}
    own_profile = scaled(profile, world.scale)
    for name in names:
        own = {
            key.partition(".")[2]: value
            for key, value in world.parameters.items()
            if key.partition(".")[0] == name
        }
        outcome = simulate(
            Experiment(
                testbed=testbed, profile=own_profile, workload=workload, strategy=name,
                parameters=resolved_parameters(name, own), seed=seed, epochs=file.epochs,
                load=file.load, rules=world.rules,
            )
        )  # fmt: skip
        everything = outcome.table.born_s >= 0
        whole = figures(outcome.scenario, outcome.table, everything)
        found[name] = {
            key: value for key, value in whole.items() if isinstance(value, int | float | None)
        }
        for lm, one in whole["per_lm"].items():
            found[name] |= {f"{lm}.rho": one["rho"], f"{lm}.t_mean_s": one["t_mean_s"]}
    return found


def _check(file: FactsFile, accepted: Accepted, number: int, out: Path) -> Check:
    """Run the nearest world of an accepted set on other seeds, with the figures that nobody
    searched for, and write its profile."""
    world = accepted.nearest.world
    asked: tuple[Quantity, ...] = (*file.facts, *file.watch)
    names = tuple(sorted({name for one in asked for name in one.strategies}))
    runs = [_figures(file, world, names, seed) for seed in CHECKED]
    values = {one.name: [value_of(one, run) for run in runs] for one in (*file.facts, *file.watch)}
    profile = inferred_profile(file, world, f"{file.profile}-inferred-{number}", accepted.facts)
    path = out / WORLDS / f"{number}.yaml"
    path.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, width=100)
    path.write_text(f"# {_settings(world)}\n{text}")
    return Check(str(path.relative_to(out)), CHECKED, values)


def _settings(world: World) -> str:
    rules = world.rules.model_dump(exclude={"name"})
    chosen = [*(f"{k}: {v}" for k, v in rules.items()),
              *(f"{k}: {v:g}" for k, v in world.parameters.items())]  # fmt: skip
    return f"Inferred together with {', '.join(chosen)}."


def inferred_profile(
    file: FactsFile, world: World, name: str, facts: tuple[str, ...]
) -> ProfileFile:
    """Return the world's profile, labelled as inferred."""
    factors = {key: float(f"{factor:.3g}") for key, factor in world.scale.items()}
    base = load_profile(file.profile)
    document = scaled(base, factors, name).model_dump(mode="json")
    _relabel(
        document, base.model_dump(mode="json"), f"{INFERRED}: {base.name} scaled, see the summary"
    )
    document["summary"] = (
        f"{INFERRED}: the numbers of {file.profile} scaled so that of the facts {file.name} "
        f"{', '.join(facts)} hold. "
        f"Factors: {', '.join(f'{key} {factor:g}' for key, factor in factors.items())}."
    )
    return ProfileFile.model_validate(document)


def _relabel(part: Any, base: Any, how: str) -> None:
    """Say of every block of numbers that is not the base's how it came about, in place."""
    if not isinstance(part, dict):
        return
    if "how" in part and part != base:
        part |= {"source": "estimated", "how": how}
    for key, inner in part.items():
        _relabel(inner, base.get(key), how)


def _take_folder(out: Path, setup: Mapping[str, Any]) -> None:
    """Make the folder for this search, or raise if it has another one."""
    path = out / SETUP
    text = json.dumps(dict(setup), sort_keys=True)
    if path.is_file():
        if path.read_text() != text:
            raise InputError(
                str(path), "is of another search: other facts, seed or number of samples",
                remedy="give its facts and options again, or another --out",
            )  # fmt: skip
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(str(out), "is not empty and no search", remedy="give another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _read(path: Path, file: FactsFile) -> list[Sample]:
    """Return the samples of an earlier search; a line that a crash cut off is removed.

    Raises:
        InputError: a line in between is damaged.
    """
    if not path.is_file():
        return []
    content = path.read_text(encoding="utf-8")
    whole = content[: content.rfind("\n") + 1]
    if whole != content:
        path.write_text(whole, encoding="utf-8")
    samples = []
    for number, line in enumerate(whole.splitlines()):
        try:
            data = json.loads(line)
            if data["number"] != number:
                raise ValueError("samples are not in order")
            world = World.model_validate(data["world"])
            distances = distances_of(file, data["figures"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number + 1}", f"is damaged ({error})",
                remedy="delete this line and those after it; the search makes them again",
            ) from error  # fmt: skip
        samples.append(Sample(number, world, data["figures"], distances))
    return samples
