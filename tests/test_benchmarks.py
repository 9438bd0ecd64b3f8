"""Every case of the benchmark runs at its smallest, and ours and the peer's results agree. Speed is measured on a quiet machine."""

import pytest

from benchmarks.passes import ablation_volume, robustness_sweep, volume_to_histogram
from benchmarks.reading import nifti_read
from benchmarks.tests_of_codewords import likelihood_ratio_tests
from benchmarks.timing import best_of, row

CASES = (nifti_read, likelihood_ratio_tests, volume_to_histogram, ablation_volume, robustness_sweep)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_gives_rows_and_both_sides_agree(case):
    rows = case(quick=True)
    assert rows[0]["id"] == case.__name__
    for found in rows:
        assert {"id", "ours", "peer", "peer_name", "ratio", "unit", "note"} <= found.keys()
        assert found["ours"] > 0 and found["peer"] > 0 and found["note"] and found["peer_name"]
        assert found.get("equal", True), f"{found['id']}: ours and the peer's results differ"
    if case is volume_to_histogram:
        reduced, exact = rows
        assert 0 < reduced["difference_ratio"] < 2 and isinstance(reduced["trained_passes"], bool)
        assert exact["difference_ratio"] == 0 and exact["equal"]


def test_a_ratio_above_one_means_that_ours_is_better_whatever_the_unit():
    assert row("x", 2.0, 6.0, "peer", "s", "note")["ratio"] == 3
    assert row("x", 6.0, 2.0, "peer", "slices/s", "note")["ratio"] == 3


def test_the_clock_runs_everything_in_turn_and_leaves_the_first_round_out():
    calls = []
    best = best_of({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert "".join(calls) == "ab" * 4 and best.keys() == {"a", "b"} and max(best.values()) < 1
