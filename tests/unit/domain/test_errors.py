"""Messages of bad input."""

from __future__ import annotations

from controller.domain.errors import EdgelmError, InputError


def test_bad_input_says_where_what_and_how_to_mend_it() -> None:
    error = InputError("lab.yaml", "must be positive", field="cores", value=-2, remedy="give 0.5")
    assert str(error) == "lab.yaml: cores: must be positive (got -2); give 0.5"
    assert isinstance(error, EdgelmError)
    assert str(InputError("lab.yaml", "is empty")) == "lab.yaml: is empty"
