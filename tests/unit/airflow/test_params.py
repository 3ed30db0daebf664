import jsonschema
import pytest

from airflow_local.parameters import documents, text
from controller import strategies
from controller.airflow.folders import folder_name
from controller.airflow.params import FILE, parameters, unknown_keys
from controller.inputs.catalog import names

DAGS = (
    "run_campaign",
    "run_epochs",
    "analyse_campaign",
    "nightly_regression",
    "bring_up_testbed",
)
CASES = [(dag_id, name) for dag_id, found in documents().items() for name in found]


def schema(dag_id: str, name: str) -> dict:
    return parameters()[dag_id][name]


def accepts(dag_id: str, name: str, value: object) -> bool:
    return jsonschema.Draft202012Validator(schema(dag_id, name)).is_valid(value)


def test_the_shipped_file_is_what_edgelm_ships():
    assert FILE.read_text() == text(), "repeat: make airflow-parameters"


def test_every_dag_is_there():
    assert tuple(parameters()) == DAGS


@pytest.mark.parametrize(("dag_id", "name"), CASES)
def test_a_parameter_is_whole(dag_id, name):
    one = schema(dag_id, name)
    jsonschema.Draft202012Validator.check_schema(one)
    assert accepts(dag_id, name, one["default"])
    assert one["title"]
    assert one["description"].endswith(".")
    choices = {str(choice) if choice else "null" for choice in one.get("enum", ())}
    assert choices in (set(one.get("values_display", ())), set())


def test_choices_are_the_names():
    campaign = parameters()["run_campaign"]
    assert campaign["campaign"]["enum"] == names("campaigns")
    assert campaign["testbed"]["enum"] == [None, *names("testbeds")]
    assert campaign["workload"]["enum"] == [None, *names("workloads")]
    assert campaign["strategies"]["items"]["enum"] == list(strategies.STRATEGIES)
    assert schema("run_epochs", "strategy")["enum"] == strategies.names()


@pytest.mark.parametrize(
    ("dag_id", "name", "good", "bad"),
    [
        ("run_campaign", "campaign", ["paper"], ["papr", "", None, 1]),
        ("run_campaign", "target", ["twin", "emulated", "live"], ["testbed", None]),
        ("run_campaign", "strategies", [[], ["RF", "MA"], None], ["RF", ["R"], ["RF", "RF"], [1]]),
        ("run_campaign", "seeds", [1, 1000, None], [0, 1001, 1.5, "1"]),
        ("run_campaign", "epochs", [1, 1000, None], [0, 1001]),
        ("run_campaign", "reasoner", ["reference", "openai", None], ["gpt", "http://h/v1"]),
        ("run_campaign", "load", [0.01, 1, 10, None], [0, 0.009, 10.1, "1", True]),
        ("run_campaign", "rows", [1, 64], [0, 65, None]),
        ("run_campaign", "hours_at_most", [0.01, 24], [0, -1, None]),
        ("run_campaign", "usd_at_most", [0, 2.5], [-0.01, None]),
        ("run_campaign", "time_scale", [0.1, 1000, None], [0, 1001]),
        ("run_epochs", "strategy", ["SOLVER"], ["ORACLE", ["SOLVER"], None]),
        ("run_epochs", "seed", [0, 2**31, None], [-1, 0.5, "1"]),
        ("run_epochs", "mode", ["apply", "approve", "advise", "off"], ["on", None]),
        ("run_epochs", "engines", ["live", "emulated"], ["twin"]),
        ("analyse_campaign", "folder", ["", "nightly-7", folder_name("a:b")],
         ["..", "a/b", ".x", "-x", "x" * 101, None]),
        ("bring_up_testbed", "tear_down", [True, False], [None, "yes"]),
    ],
)  # fmt: skip
def test_values(dag_id, name, good, bad):
    assert [value for value in good if not accepts(dag_id, name, value)] == []
    assert [value for value in bad if accepts(dag_id, name, value)] == []


def test_known_keys_pass():
    assert unknown_keys("run_campaign", {}) == []
    assert unknown_keys("run_campaign", {"campaign": "paper", "seeds": 3}) == []


def test_an_unknown_key_is_named_with_the_closest_and_all():
    (sentence,) = unknown_keys("run_campaign", {"campaign": "paper", "strategy": ["RF"]})
    assert sentence == (
        "run_campaign has no parameter 'strategy'; did you mean strategies? it has "
        + ", ".join(parameters()["run_campaign"])
    )


def test_other_spellings_find_the_parameter():
    for key, near in (("Hours-At-Most", "hours_at_most"), ("SEEDS", "seeds")):
        (sentence,) = unknown_keys("run_campaign", {key: 1})
        assert f"did you mean {near}?" in sentence


def test_a_strange_key_is_cut():
    (sentence,) = unknown_keys("nightly_regression", {"\n" + "k" * 10_000: 1})
    assert sentence.startswith(r"nightly_regression has no parameter '\nkkk")
    assert len(sentence) < 150


def test_a_dag_of_another_is_not_judged():
    with pytest.raises(KeyError):
        unknown_keys("example", {})
