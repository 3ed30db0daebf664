"""Every kind of fault makes what its name says, as often as was asked for, the same every time."""

import json
from collections import Counter
from typing import Any

import pytest

from controller.agents.replies import planner_format, scheduler_format
from controller.agents.views import cluster_context, node_context
from controller.domain.errors import InputError, InvalidDecision
from controller.reference_model.completions import HttpReply, Latency, complete
from controller.reference_model.faults import HANG_S, SLOW_S, SPOILERS, ReplyFaults, parse_faults
from tests.unit.policies.states import shipped
from tests.unit.reference_model.duets import messages

PAPER = shipped()
NODES, LMS = PAPER.testbed.node_names, PAPER.testbed.lm_names
LATENCY = Latency(0.5, 0.01)
KINDS = list(SPOILERS)


def request(slot: int = 0) -> dict[str, Any]:
    """A node with LM1 in its role and nothing running."""
    demand = {lm: {"requests_per_slot": 0.2, "prompts_per_request": 2.0} for lm in LMS}
    seen = {"slot": slot, "role": ["LM1"], "expected": demand, "pods": {}, "blocked": False}
    return {"model": "edgelm-reference", "messages": messages(node_context(PAPER, 0), seen)}


def ask(faults: ReplyFaults, wanted: dict[str, Any]) -> HttpReply:
    raw = json.dumps(wanted).encode()
    return faults.spoil(raw, wanted, LATENCY, lambda: complete(wanted, LATENCY))


def spoilt(kind: str, wanted: dict[str, Any] | None = None) -> HttpReply:
    return ask(parse_faults(f"{kind}=1"), wanted or request())


def choice(reply: HttpReply) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reply.body)["choices"][0]
    return found


def text(reply: HttpReply) -> str:
    return str(choice(reply)["message"]["content"])


GOOD = complete(request(), LATENCY)


def test_without_faults_a_reply_is_good() -> None:
    reply = ask(ReplyFaults({}), request())
    assert (reply.status, text(reply)) == (200, text(GOOD))
    assert json.loads(text(GOOD))["LM1"]["mode"] != "off"


def test_malformed_is_no_json() -> None:
    with pytest.raises(ValueError, match=r"."):
        json.loads(text(spoilt("malformed")))
    assert choice(spoilt("malformed"))["finish_reason"] == "stop"


def test_schema_is_json_of_another_shape() -> None:
    assert json.loads(text(spoilt("schema"))).keys() == {"decision"}


def test_infeasible_pods_are_beyond_every_budget() -> None:
    pods = json.loads(text(spoilt("infeasible")))
    assert pods.keys() == json.loads(text(GOOD)).keys()
    assert {(pod["mode"], pod["vgpus"]) for pod in pods.values()} == {("gpu", 99)}


def test_infeasible_shares_sum_to_three_and_infeasible_routes_lead_nowhere() -> None:
    planner = messages(
        cluster_context(PAPER, "planner"),
        {"slot": 0, "nodes_down": [], "demand": None, "policy": None},
    )
    plan = json.loads(text(spoilt("infeasible", {**request(), "messages": planner})))
    assert planner_format(PAPER).parse(json.dumps(plan))  # well-formed
    assert [round(sum(shares.values()), 3) for shares in plan["routing"].values()] == [3.0] * 4
    policy = {"routing": plan["routing"], "roles": plan["roles"], "forecast": plan["forecast"]}
    seen = {
        "slot": 0,
        "policy": {**policy, "roles": {node: plan["roles"].get(node, []) for node in NODES}},
        "nodes_down": [],
        "expected_prompts": {node: dict.fromkeys(LMS, 1.0) for node in NODES},
        "pods": {},
    }
    scheduler = messages(cluster_context(PAPER, "scheduler"), seen)
    routes = text(spoilt("infeasible", {**request(), "messages": scheduler}))
    form = scheduler_format(NODES, dict.fromkeys(LMS, NODES), elsewhere=False)
    with pytest.raises(InvalidDecision):
        form.parse(routes)
    assert {to for table in json.loads(routes).values() for to in table.values()} == {"nowhere"}


def test_a_refusal_has_no_content() -> None:
    message = choice(spoilt("refusal"))["message"]
    assert message["content"] is None
    assert "can't" in message["refusal"]


def test_empty_is_empty() -> None:
    assert text(spoilt("empty")) == ""


def test_length_is_cut_off_and_says_so() -> None:
    reply = spoilt("length")
    assert choice(reply)["finish_reason"] == "length"
    assert text(GOOD).startswith(text(reply))
    assert len(text(reply)) < len(text(GOOD))


def test_prose_surrounds_the_good_reply() -> None:
    reply = text(spoilt("prose"))
    assert not reply.startswith("{")
    assert text(GOOD) in reply


def test_429_says_when_to_come_again() -> None:
    reply = spoilt("429")
    assert reply.status == 429
    assert 1 <= int(reply.headers["retry-after"]) <= 41
    assert json.loads(reply.body)["error"]["code"] == "rate_limit_exceeded"


def test_500_is_the_servers_error() -> None:
    assert spoilt("500").status == 500
    assert json.loads(spoilt("500").body)["error"]["type"] == "server_error"


def test_slow_and_hang_declare_their_time() -> None:
    slow, hang = spoilt("slow"), spoilt("hang")
    assert SLOW_S[0] <= slow.latency_s - GOOD.latency_s <= SLOW_S[1]
    assert hang.latency_s == HANG_S
    assert text(slow) == text(hang) == text(GOOD)


def test_drop_is_no_answer() -> None:
    assert spoilt("drop").status == 0


def kinds_met(seed: int, spec: str = "all=0.6", asks: int = 40) -> list[tuple[int, float, str]]:
    faults = parse_faults(spec, seed)
    replies = [ask(faults, request(slot)) for slot in range(asks)]
    return [
        (one.status, one.latency_s, text(one) if one.status in (0, 200) else "") for one in replies
    ]


def test_the_same_seed_meets_the_same_faults() -> None:
    assert kinds_met(1) == kinds_met(1)
    assert kinds_met(1) != kinds_met(2)


def test_the_order_of_concurrent_calls_does_not_matter() -> None:
    forth, back = parse_faults("all=0.6", 1), parse_faults("all=0.6", 1)
    one = {slot: ask(forth, request(slot)).status for slot in range(30)}
    other = {slot: ask(back, request(slot)).status for slot in reversed(range(30))}
    assert one == other


def test_asking_again_may_bring_another_fault() -> None:
    faults = parse_faults("500=0.5", 3)
    assert {ask(faults, request()).status for _ in range(20)} == {200, 500}


def test_rates_are_met() -> None:
    faults = parse_faults("500=0.3,429=0.2", 7)
    bad = HttpReply(200, b"{}", 0.0, {})
    wanted = request()
    count = Counter(
        faults.spoil(str(k).encode(), wanted, LATENCY, lambda: bad).status for k in range(4000)
    )
    assert abs(count[500] / 4000 - 0.3) < 0.03
    assert abs(count[429] / 4000 - 0.2) < 0.03


def test_health_checks_and_failures_pass_unspoilt() -> None:
    faults = parse_faults("empty=1")
    check = {"model": "edgelm-reference", "messages": [{"role": "user", "content": "Hello"}]}
    assert text(ask(faults, check)) != ""
    assert ask(faults, {**request(), "model": "gpt-9"}).status == 404


def test_all_spreads_over_every_kind() -> None:
    assert parse_faults("all=0.6").rates == pytest.approx(dict.fromkeys(KINDS, 0.6 / len(KINDS)))
    assert parse_faults("slow, all=0.6").rates["slow"] == pytest.approx(0.1 + 0.6 / len(KINDS))
    assert parse_faults("").rates == {}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("flood=0.1", r"no such fault \(got 'flood'\); write KIND=RATE,\.\.\. with all or of malf"),
        ("slow=often", r"is no rate from 0 to 1 \(got 'slow=often'\)"),
        ("slow=-0.1", "is no rate from 0 to 1"),
        ("slow=1.1", "is no rate from 0 to 1"),
        ("slow=nan", "is no rate from 0 to 1"),
        ("slow=", "is no rate from 0 to 1"),
        ("slow=0.6,drop=0.6", "rates sum to more than 1"),
    ],
)
def test_a_wrong_spec_is_refused(spec: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_faults(spec)
