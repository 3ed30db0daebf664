"""Time on a shared GPU discounted by the twin's rule, against sums by hand."""

import pytest

from controller.calibration.service import Span, batch_factor, undisturbed_s
from controller.domain.profile import Batching

SPAN = Span(0, 10.0, 20.0, True, None)


def test_alone_on_its_gpu_all_time_counts() -> None:
    assert undisturbed_s(SPAN, 0b1, [(0.0, 30.0, 0b10)], 0.1) == pytest.approx(10.0)


def test_time_with_others_counts_by_the_most_of_any_gpu() -> None:
    others = [(12.0, 14.0, 0b1), (13.0, 30.0, 0b11), (0.0, 11.0, 0b10)]
    # 10-11 two on GPU 1, 11-12 alone, 12-13 two, 13-14 three on GPU 0, 14-20 two.
    expected = 0.9 * (1 / 2) + 1 + 0.9 / 2 + 0.9 / 3 + 6 * 0.9 / 2
    assert undisturbed_s(SPAN, 0b11, others, 0.1) == pytest.approx(expected)


@pytest.mark.parametrize(("prompts", "factor"), [(1, 1.0), (3, 1.8), (4, 2.8), (6, 3.6)])
def test_a_request_goes_in_full_batches_and_a_rest(prompts: int, factor: float) -> None:
    assert batch_factor(Batching((1.0, 1.5, 1.8)), prompts) == pytest.approx(factor)
