"""A front door before tiny models with weights: every modality by the official client.

It needs the extra `lm`: `make e2e` installs it and runs this.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Iterator

import openai
import pytest

from tests.live.front_doors import HELLO, Doors, Run, doors, front_experiment, picture
from tests.live.throughput import last_nodes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="no torch here; run `make e2e`"
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    from controller.testbed.weights.catalog import SOURCES
    from controller.testbed.weights.tiny import build

    weights = tmp_path_factory.mktemp("weights")
    for name in SOURCES:
        build(name, weights / name, seed=0)
    with doors(tmp_path_factory.mktemp("doors") / "services", 1.0, weights, 1) as found:
        # Hardly any requests of the workload: its prompts are too large for tiny models.
        one = front_experiment(
            target="live", testbed=last_nodes(1), slot_s=5.0, epoch_slots=400, tau_s=500.0,
            load=0.001,
        )  # fmt: skip
        run = Run(found, one)
        yield found
        run.end()


def test_texts_are_continued_and_repeat_by_their_seed(door: Doors) -> None:
    client = door.client()
    call = {"model": "LM1", "messages": HELLO, "max_tokens": 6, "n": 2}
    first, again = (client.chat.completions.create(**call, seed=3) for _ in range(2))
    texts = [one.message.content for one in first.choices]
    assert texts == [one.message.content for one in again.choices]
    assert texts[0] != texts[1]
    streamed = client.chat.completions.create(**call, seed=3, stream=True)
    parts = ["", ""]
    for chunk in streamed:
        choice = chunk.choices[0]
        parts[choice.index] += choice.delta.content or ""
    assert parts == texts
    done = client.completions.create(model="LM2", prompt=["a", "b"], max_tokens=4)
    assert [one.index for one in done.choices] == [0, 1]


def test_an_image_is_drawn_and_captioned(door: Doors) -> None:
    from PIL import Image

    client = door.client("bob")
    drawn = client.images.generate(
        prompt="a cat", size="64x64", n=2, extra_body={"steps": 2, "seed": 1}
    )
    images = [base64.b64decode(one.b64_json) for one in drawn.data]
    assert images[0] != images[1]
    for content in images:
        assert Image.open(io.BytesIO(content)).size == (64, 64)
    file = io.BytesIO()
    Image.open(io.BytesIO(images[0])).convert("RGB").save(file, "JPEG")
    for kind, content in (("PNG", images[0]), ("jpeg", file.getvalue())):
        url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        seen = client.chat.completions.create(
            model="Salesforce/blip-image-captioning-large", messages=picture(url), max_tokens=5
        )
        assert isinstance(seen.choices[0].message.content, str)


def test_an_image_that_is_torn_is_an_error_of_the_engine(door: Doors) -> None:
    """Its header is whole, so only the engine finds out."""
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "PNG")
    torn = base64.b64encode(file.getvalue()[:2000]).decode()
    with pytest.raises(openai.InternalServerError) as raised:
        door.client().chat.completions.create(
            model="LM3", messages=picture(f"data:image/png;base64,{torn}")
        )
    assert (raised.value.status_code, raised.value.code) == (500, "engine_error")
