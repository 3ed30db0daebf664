"""Who answers the agents of a run: short forms, defaults, labels, what is refused."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from controller.agents.chat import REFERENCE_MODEL
from controller.campaigns.file import CampaignFile
from controller.campaigns.reasoner import (
    OPENAI,
    SERVICES,
    Models,
    Reasoner,
    ReasonerItem,
    reasoner_fields,
    short_names,
)
from controller.domain.errors import InputError
from controller.inputs.documents import parse
from tests.samples.small import small_campaign, small_experiment, small_grid

ITEM: TypeAdapter[Reasoner] = TypeAdapter(ReasonerItem)
MODELS = {"planner": "large", "scheduler": "small", "deployer": "small"}
URL = "http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("reference", Reasoner()),
        ("openai", Reasoner(kind="openai")),
        ("faulty:all=0.2,drop=0.1", Reasoner(kind="faulty", faults="all=0.2,drop=0.1")),
        ({"kind": "url", "url": URL, "models": MODELS},
         Reasoner(kind="url", url=URL, models=Models(**MODELS))),
    ],
)  # fmt: skip
def test_short_forms_are_reasoner_fields_out(short: Any, whole: Reasoner) -> None:
    assert ITEM.validate_python(short) == whole


def test_a_url_is_reasoner_fields_with_the_model_of_the_command_line() -> None:
    assert reasoner_fields(URL, {"models": MODELS}) == {"kind": "url", "url": URL, "models": MODELS}
    assert reasoner_fields("reference", {"temperature": 0.2}) == {
        "kind": "reference",
        "temperature": 0.2,
    }


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("oracle", "kind"),
        ("http://localhost:8000/v1", "needs models"),
        ({"kind": "url"}, "needs its url"),
        ("faulty", "needs faults"),
        ({"kind": "openai", "temperature": -1.0}, "temperature"),
        ({"kind": "openai", "reasoning_effort": "utmost"}, "reasoning_effort"),
        ({"kind": "openai", "key": "sk-1"}, "key"),
        ({"kind": "openai", "max_tokens": 0}, "max_tokens"),
        ({"kind": "openai", "max_tokens": 0.5}, "max_tokens"),
        ({"kind": "reference", "token_s": float("inf")}, "token_s"),
        ({"kind": "openai", "models": {**MODELS, "planner": "a b"}}, "planner"),
        ({"kind": "openai", "models": {"planner": "a"}}, "scheduler"),
    ],
)
def test_a_wrong_reasoner_is_refused(wrong: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ITEM.validate_python(wrong)


def test_the_reference_reasoner_is_called_an_optimiser_wherever_it_is() -> None:
    for kind, faults in (("reference", ""), ("faulty", "all=0.1")):
        one = Reasoner.model_validate({"kind": kind, "faults": faults})
        assert one.embedded
        assert one.label().endswith("(optimiser, not a language model)")
        assert one.described()["is_language_model"] is False
        assert set(one.named_models().model_dump().values()) == {"edgelm-reference"}
    elsewhere = Reasoner(kind="url", url="http://host:8000/v1", models=Models(**MODELS))
    assert elsewhere.label() == "large / small at host:8000"
    assert elsewhere.described()["is_language_model"] is True
    ours = Models(planner=REFERENCE_MODEL, scheduler=REFERENCE_MODEL, deployer=REFERENCE_MODEL)
    remote = Reasoner(kind="url", url="http://host:8000/v1", models=ours)
    assert remote.label() == ("edgelm-reference at host:8000 (optimiser, not a language model)")
    assert remote.described()["is_language_model"] is False
    mixed = remote.model_copy(update={"models": ours.model_copy(update={"planner": "large"})})
    assert mixed.described()["is_language_model"] is True


def test_openai_has_an_address_and_models() -> None:
    one = Reasoner(kind="openai")
    assert one.address == SERVICES[OPENAI].url
    assert one.named_models().planner == SERVICES[OPENAI].planner
    assert one.named_models().scheduler == one.named_models().deployer == SERVICES[OPENAI].lower


def test_the_reasoner_is_part_of_the_experiment() -> None:
    ids = {
        small_experiment(strategy="MA", reasoner=Reasoner(**fields)).run_id
        for fields in (
            {},
            {"token_s": 0.02},
            {"kind": "openai"},
            {"temperature": 0.5},
            {"max_tokens": 9},
        )
    }
    assert len(ids) == 5


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS", "ftp"])
def test_an_address_with_a_password_is_refused_and_not_repeated(scheme: str) -> None:
    url = f"{scheme}://me:s3cret@host/v1"
    for one in (url, {"kind": "url", "url": url, "models": MODELS}):
        content = {"name": "c", "summary": "s", "strategies": ["MA"], "reasoners": [one]}
        with pytest.raises(InputError, match="reasoners") as caught:
            parse(CampaignFile, "campaign.yaml", content)
        assert "s3cret" not in str(caught.value)


def test_only_strategies_with_agents_are_run_per_reasoner() -> None:
    grid = small_grid(strategies=("RF", "MA"), seeds=1, reasoners=("reference", "faulty:all=0.2"))
    found = [(cell.experiment.strategy, cell.experiment.reasoner) for cell in grid.cells]
    assert found[0] == ("RF", None)
    assert [(name, one and one.short()) for name, one in found[1:]] == [
        ("MA", "reference"),
        ("MA", "faulty:all=0.2"),
    ]


def test_a_campaign_needs_some_reasoner() -> None:
    with pytest.raises(ValidationError, match="must not be empty"):
        small_campaign(reasoners=())


@pytest.mark.parametrize(
    ("parameters", "label", "is_asked"),
    [
        ({}, "MA", True),
        ({"mode": "advise"}, "MA (advise: SOLVER decides)", True),
        ({"mode": "approve"}, "MA (approve)", True),
        ({"mode": "off", "incumbent": "RF"}, "MA (off: RF decides)", False),
    ],
)
def test_a_label_says_who_decides_where_agents_do_not_alone(
    parameters: dict[str, str], label: str, *, is_asked: bool
) -> None:
    (cell,) = small_grid(strategies=({"name": "MA", "parameters": parameters},), seeds=1).cells
    assert cell.label == label
    assert (cell.experiment.reasoner is not None) == is_asked


def at(url: str, **changes: Any) -> Reasoner:
    return Reasoner(kind="url", url=url, models=Models(**MODELS), **changes)


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (at("http://a:1/v1"), at("http://b:1/v1"),
         ["large / small at a:1", "large / small at b:1"]),
        (at("http://a:1/east/v1"), at("http://a:1/west/v1"),
         ["large / small at a:1/east", "large / small at a:1/west"]),
        (at("http://a:1/v1"), at("http://a:1/v1", temperature=0.5),
         ["large / small at a:1", "large / small at a:1, temperature 0.5"]),
        (Reasoner(), Reasoner(token_s=0.02), ["reference", "reference, token_s 0.02"]),
        (Reasoner(), at("http://a:1/v1"), ["reference", "large / small"]),
    ],
)  # fmt: skip
def test_names_tell_reasoners_apart(one: Reasoner, other: Reasoner, names: list[str]) -> None:
    assert short_names([one, other]) == names


def test_one_model_on_two_servers_can_be_compared() -> None:
    servers = ({"kind": "url", "url": f"http://{host}:1/v1", "models": MODELS} for host in "ab")
    grid = small_grid(strategies=("MA",), seeds=1, reasoners=tuple(servers))
    assert [cell.label for cell in grid.cells] == [
        "MA (large / small at a:1)",
        "MA (large / small at b:1)",
    ]
    assert len({cell.axes()["reasoner"] for cell in grid.cells}) == 2
