"""Prices of language models' tokens: the shipped list, overridden by a user's own."""

from __future__ import annotations

import datetime
from importlib import resources
from pathlib import Path

from pydantic import Field

from controller.agents.endpoint.prices import Price, Prices
from controller.inputs.documents import parse, read_yaml
from controller.inputs.fields import Model, NonNegative, Record, Text


class PriceFile(Record):
    """A list of prices."""

    models: dict[Model, ModelPrice] = Field(description="prices by the model's name")


class ModelPrice(Record):
    """Price in USD per million tokens, with its source."""

    input: NonNegative
    cached_input: NonNegative | None = Field(
        default=None, description="input that the server has cached; as input if not given"
    )
    output: NonNegative = Field(description="reasoning tokens count as output")
    source: Text = Field(description="price list of these numbers")
    date: datetime.date = Field(description="date of the price list, YYYY-MM-DD")

    def price(self) -> Price:
        cached = self.input if self.cached_input is None else self.cached_input
        return Price(self.input, cached, self.output)


def load_prices(path: str | Path | None = None) -> Prices:
    """Return the shipped prices, extended and overridden by those of the file at ``path``.

    Raises:
        InputError: the file cannot be read or is not a list of prices.
    """
    shipped = Path(str(resources.files("controller"))) / "data" / "prices.yaml"
    files = [shipped] if path is None else [shipped, Path(path).expanduser()]
    entries = [entry for file in files for entry in load_price_file(file).models.items()]
    return Prices({name: entry.price() for name, entry in entries})


def load_price_file(path: Path) -> PriceFile:
    """Return one list of prices.

    Raises:
        InputError: as :func:`load_prices`.
    """
    return parse(PriceFile, str(path), read_yaml(path))
