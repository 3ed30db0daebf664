"""Prices by model: cached input apart, dated versions, and "unknown" for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.agents.endpoint.prices import Price, Prices
from controller.domain.errors import InputError
from controller.inputs.prices import load_prices

MINI = Price(0.4, 0.1, 1.6)


def test_cached_input_is_priced_apart() -> None:
    million = 10**6
    assert MINI.cost_usd(million, 0, 0) == pytest.approx(0.4)
    assert MINI.cost_usd(million, million, 0) == pytest.approx(0.1)
    assert MINI.cost_usd(2 * million, million, million) == pytest.approx(0.4 + 0.1 + 1.6)


def test_more_cached_than_read_is_not_more_than_all_of_it() -> None:
    assert MINI.cost_usd(10, 1000, 0) == MINI.cost_usd(10, 10, 0)


@pytest.mark.parametrize("name", ["mini", "mini-2025-04-14", "mini-20250414"])
def test_a_dated_version_costs_what_its_model_costs(name: str) -> None:
    assert Prices({"mini": MINI}).of(name) == MINI


@pytest.mark.parametrize(
    "name", ["", "mini-preview", "mini-2", "min", "2025-04-14", "mini-2025-04-14-x"]
)
def test_other_names_have_no_price(name: str) -> None:
    assert Prices({"mini": MINI}).of(name) is None


def test_a_version_listed_itself_has_its_own_price() -> None:
    old = Price(5.0, 5.0, 15.0)
    assert Prices({"mini": MINI, "mini-2024-05-13": old}).of("mini-2024-05-13") == old


def test_the_first_name_with_a_price_counts() -> None:
    prices = Prices({"mini": MINI})
    assert prices.of("my-deployment", "mini-2025-04-14") == MINI
    assert prices.of("my-deployment", "other") is None


def test_shipped_prices() -> None:
    prices = load_prices()
    assert prices.of("gpt-4.1-mini-2025-04-14") == MINI
    local = prices.of("edgelm-reference")
    assert local is not None
    assert local.free
    for name, price in prices.models.items():
        assert price.cached_input_usd <= price.input_usd <= price.output_usd, name


def test_own_prices_add_to_the_shipped_and_replace_them(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    entry = "{input: 1, output: 2, source: my provider, date: 2026-01-01}"
    file.write_text(f"models: {{gpt-4.1: {entry}, 'my/model:7b': {entry}}}\n")
    prices = load_prices(file)
    assert prices.of("gpt-4.1") == prices.of("my/model:7b") == Price(1.0, 1.0, 2.0)
    assert prices.of("gpt-4.1-mini") == MINI


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {m: {input: -1, output: 2, source: s, date: 2026-01-01}}", "models.m.input"),
        ("models: {m: {input: '1', output: 2, source: s, date: 2026-01-01}}", "models.m.input"),
        ("models: {m: {input: .nan, output: 2, source: s, date: 2026-01-01}}", "models.m.input"),
        ("models: {m: {input: 1, source: s, date: 2026-01-01}}", "models.m.output: is missing"),
        ("models: {m: {input: 1, output: 2, source: s}}", "models.m.date: is missing"),
        ("models: {m: {input: 1, output: 2, source: s, date: soon}}", "models.m.date"),
        ("prices: {}", "is not a known field"),
        ("[]", "prices.yaml"),
    ],
)
def test_a_wrong_file_is_refused_by_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_prices(file)
    assert said in str(caught.value)
    assert "prices.yaml" in str(caught.value)
