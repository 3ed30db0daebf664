import hashlib
import json

import pytest

from controller.bootstrap.twin import simulate
from controller.campaigns.experiment import MODEL_VERSION, Experiment, load_experiment
from controller.campaigns.faults import Faults, Outage
from controller.campaigns.rules import RuleSet
from controller.domain.errors import InputError
from controller.inputs.catalog import load_profile
from controller.results.writing import run_files
from tests.samples.small import small_experiment


def test_the_id_is_the_hash_of_the_saved_text() -> None:
    experiment = small_experiment()
    text = experiment.canonical_json()
    assert experiment.run_id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_a_saved_experiment_is_the_same_again() -> None:
    experiment = small_experiment(
        strategy="RL", faults=Faults(name="a", outages=(Outage(node="vm3", down_s=9),))
    )
    again = load_experiment(experiment.canonical_json(), "experiment.json")
    assert again == experiment
    assert again.run_id == experiment.run_id


def test_a_saved_experiment_gives_the_same_run() -> None:
    """Saving sorts the keys of testbed and profile, which must not matter."""
    experiment = small_experiment(strategy="RL")
    again = load_experiment(experiment.canonical_json(), "experiment.json")
    first, second = (run_files(one.canonical_json(), simulate(one)) for one in (experiment, again))
    assert first["requests.parquet"] == second["requests.parquet"]
    assert first["decisions.jsonl"] == second["decisions.jsonl"]


CHANGES = {
    "seed": 2,
    "epochs": 2,
    "slot_s": 31.0,
    "epoch_slots": 11,
    "lam": 0.4,
    "tau_s": 901.0,
    "load": 0.9,
    "target": "live",
    "strategy": "RR",
    "parameters": {"x": 1.0},
    "profile": load_profile("a5000").scaled({"start": 1.5}),
    "faults": Faults(name="a", outages=(Outage(node="vm3", down_s=9),)),
    "model_version": MODEL_VERSION + 1,
    "rules": RuleSet(name="a", slices="static"),
    "plans_on": load_profile("a5000"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_whatever_decides_a_result_changes_the_id(field: str) -> None:
    changed = small_experiment(**{"parameters": {}, field: CHANGES[field]})
    assert changed.run_id != small_experiment(parameters={}).run_id


def test_a_changed_experiment_has_an_id_of_its_own() -> None:
    one = small_experiment()
    former = one.run_id  # cached from here on
    other = one.changed(seed=99)
    assert (other.seed, one.seed) == (99, 1)
    assert other.run_id != former
    assert other.changed(seed=1).run_id == former == one.run_id


def test_every_field_is_part_of_the_identity() -> None:
    unusual = small_experiment(
        rules=RuleSet(name="a", late="serve"), plans_on=load_profile("a5000")
    )
    assert set(json.loads(unusual.canonical_json())) == set(Experiment.model_fields)
    assert load_experiment(unusual.canonical_json(), "experiment.json") == unusual


def test_runs_from_before_there_were_rules_keep_their_ids() -> None:
    usual = json.loads(small_experiment().canonical_json())
    assert set(Experiment.model_fields) - set(usual) == {"rules", "plans_on"}


def test_rules_are_the_twins_alone() -> None:
    with pytest.raises(ValueError, match="rules 'a' are the twin's alone, not of target live"):
        small_experiment(target="live", rules=RuleSet(name="a", late="serve"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "another version of the model"),
        (json.dumps({"model_version": MODEL_VERSION + 1}), "another version of the model"),
        (json.dumps({"model_version": MODEL_VERSION}), "is missing"),
    ],
)
def test_what_is_no_experiment_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load_experiment(text, "runs/x/experiment.json")
    assert "runs/x/experiment.json" in str(caught.value)


def test_the_same_seed_gives_every_strategy_the_same_arrivals() -> None:
    one, other = (simulate(small_experiment(strategy=name)) for name in ("RF", "RR"))
    for column in ("lm", "origin", "prompts", "born_s"):
        assert (getattr(one.requests, column) == getattr(other.requests, column)).all()
    third = simulate(small_experiment(seed=2))
    assert len(third.requests) != len(one.requests)
