from hypothesis import given
from hypothesis import strategies as st

from controller.airflow.folders import LENGTH, folder_name, folder_of, is_folder_name


def test_plain_ids_are_kept():
    for run_id in ("nightly-7", "manual__2026-11-30", "a", "x" * LENGTH):
        assert folder_name(run_id) == run_id


def test_airflows_own_ids_become_names():
    assert folder_name("manual__2026-11-30T20:25:41.12+00:00_aB") == (
        "manual__2026-11-30T20-25-41.12-00-00_aB-584bf79c"
    )


def test_ids_that_look_alike_keep_apart():
    alike = ["a:b", "a-b", "a+b", "a/b", "a b", "a\nb", "x" * 101, "x" * 102, "..", ".", "-", ""]
    assert len({folder_name(one) for one in alike}) == len(alike)


@given(st.text(alphabet=st.characters(), max_size=250))
def test_every_id_is_a_safe_name(run_id):
    name = folder_name(run_id)
    assert is_folder_name(name)
    assert len(name) <= LENGTH
    assert folder_name(name) == name
    assert (name == run_id) == is_folder_name(run_id)


def test_what_is_no_name():
    for name in ("", ".", "..", ".hidden", "-option", "a/b", "a\\b", "a\n", "é", "x" * 101, "a\0b"):
        assert not is_folder_name(name)


def test_two_dags_runs_of_one_day_have_two_folders():
    day = "scheduled__2026-12-01T00:00:00+00:00"
    assert folder_of("run_epochs", day).startswith("run_epochs.scheduled__2026-12-01T00-00-00")
    assert folder_of("run_epochs", day) != folder_of("nightly_regression", day)
    assert folder_of("run_campaign", "paper-1a2b3c") == "run_campaign.paper-1a2b3c"
