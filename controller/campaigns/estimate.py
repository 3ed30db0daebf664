"""Expected time and cost of runs: from finished runs of the same strategy in campaigns nearby, or
from a short run that is made to see."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.agents.endpoint.prices import Prices
from controller.campaigns.experiment import Experiment, load_experiment
from controller.domain.decisions import TIERS, total
from controller.domain.errors import InputError
from controller.results.campaign import read_run
from controller.results.folder import EXPERIMENT, run_folder
from controller.results.manifest import MANIFEST, Manifest, read_manifest
from controller.results.run import Run

MOST_SAMPLES: Final = 5  # runs read of each strategy, testbed, reasoner and target

PROBE_SLOTS: Final = 50  # most slots of a run that is made to see how long others take

Probe = Callable[[Experiment], float]  # seconds that a short run on the twin takes, by making it
_Key = tuple[str, str, str]  # strategy, reasoner, testbed


@dataclass(frozen=True, slots=True)
class Expected:
    """Expectation of one run: seconds of one worker, and USD; None where nothing is known."""

    wall_s: float | None
    usd: float | None


@dataclass(frozen=True, slots=True)
class _Sample:
    """A finished run."""

    target: str
    slots: float  # the drain included
    wall_s: float
    decisions: Mapping[str, Mapping[str, Any]]  # by tier


class Estimates:
    """Expectations of experiments that would run in the campaign folder ``root``.

    ``probe`` is asked once for each strategy, testbed and reasoner of the twin that no finished run
    shows; runs on a testbed take their own time divided by ``time_scale``.
    """

    def __init__(self, root: Path, probe: Probe, prices: Prices, time_scale: float = 1.0) -> None:
        self._probe, self._prices, self._time_scale = probe, prices, time_scale
        self._samples = _read_samples(root)
        self._slot_s: dict[_Key, float | None] = {}  # real seconds per slot

    def of(self, experiment: Experiment) -> Expected:
        """Return what a run of the experiment is expected to take and cost."""
        return Expected(self._wall_s(experiment), self._usd(experiment))

    def _wall_s(self, one: Experiment) -> float | None:
        if one.target != "twin":
            return (one.slots * one.slot_s + one.tau_s) / self._time_scale
        key = _key(one)
        if key not in self._slot_s:
            self._slot_s[key] = self._seconds_per_slot(one)
        per_slot_s = self._slot_s[key]
        return None if per_slot_s is None else per_slot_s * _slots(one)

    def _seconds_per_slot(self, one: Experiment) -> float | None:
        found = [sample for sample in self._samples[_key(one)] if sample.target == "twin"]
        if found:
            return sum(each.wall_s for each in found) / sum(each.slots for each in found)
        if one.reasoner is not None and not one.reasoner.embedded:
            return None  # asking it costs money
        short = one.changed(epochs=1, epoch_slots=min(one.epoch_slots, PROBE_SLOTS))
        return self._probe(short) / _slots(short)

    def _usd(self, one: Experiment) -> float | None:
        """Return the price of the tokens, by those that each call of a tier has taken before. What
        a server has cached is counted as new."""
        if one.reasoner is None or one.reasoner.embedded:
            return 0.0
        samples, models = self._samples[_key(one)], one.reasoner.named_models().model_dump()
        total_usd = 0.0
        for tier in TIERS:
            price = self._prices.of(models[tier])
            if price is None or not (samples or price.free):
                return None
            if price.free:
                continue
            tokens_in, tokens_out = (
                _per_slot(samples, tier, name) for name in ("tokens_in", "tokens_out")
            )
            if tokens_in is None or tokens_out is None:
                return None
            slots = _slots(one)
            total_usd += price.cost_usd(round(tokens_in * slots), 0, round(tokens_out * slots))
        return total_usd


def _per_slot(samples: Sequence[_Sample], tier: str, name: str) -> float | None:
    """Return a tier's tokens a slot; None where a sample's are not known."""
    count = total(sample.decisions.get(tier, {}).get(name, 0) for sample in samples)
    return None if count is None else float(count / sum(sample.slots for sample in samples))


def _key(one: Experiment) -> _Key:
    return one.strategy, one.reasoner.label() if one.reasoner else "", one.testbed.name


def _slots(one: Experiment) -> float:
    """Return the slots that a run goes through at most: those with arrivals, and the drain."""
    return one.slots + one.tau_s / one.slot_s


def _read_samples(root: Path) -> defaultdict[_Key, list[_Sample]]:
    """Read some finished runs of every kind in ``root``, and in the campaign folders beside it
    from the newest on."""
    found: defaultdict[_Key, list[_Sample]] = defaultdict(list)
    taken: Counter[tuple[Any, ...]] = Counter()
    root = root.absolute()
    beside = sorted(root.parent.glob(f"*/{MANIFEST}"), key=_changed_s, reverse=True)
    for folder in dict.fromkeys([root, *(path.parent for path in beside)]):
        try:
            manifest = read_manifest(folder)
        except InputError:
            continue  # somebody else's, too old, or not there yet
        for run in _some_runs(folder, manifest, taken):
            sample = _sample(run)
            if sample:
                found[sample[0]].append(sample[1])
    return found


def _changed_s(path: Path) -> float:
    return path.stat().st_mtime


def _some_runs(root: Path, manifest: Manifest, taken: Counter[tuple[Any, ...]]) -> Iterator[Run]:
    """Yield finished runs until enough of their kind are ``taken``: each is checked, which reads
    all of it."""
    for entry in manifest.runs:
        kind = tuple(entry.axes.get(axis) for axis in ("strategy", "testbed", "reasoner", "target"))
        if taken[kind] >= MOST_SAMPLES or not run_folder(root, entry.id).is_dir():
            continue
        try:
            yield read_run(run_folder(root, entry.id))
        except InputError:
            continue
        taken[kind] += 1


def _sample(run: Run) -> tuple[_Key, _Sample] | None:
    """Return a run as a sample; None if another version wrote what cannot be understood."""
    try:
        one, summary = load_experiment(run.content(EXPERIMENT), run.id), run.summary
        sample = _Sample(one.target, _slots(one), summary["wall_s"], summary["decisions"])
        return _key(one), sample
    except (InputError, KeyError):
        return None
