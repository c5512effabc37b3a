"""Matrices of the guard in eight bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgedistill.runtime.guard.packing import packed, rounded, unpacked

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 5)),
    elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
)


@settings(deadline=None)
@given(MATRICES)
def test_what_was_rounded_packs_without_loss_and_stays_as_it_is(matrix: np.ndarray) -> None:
    near = rounded(matrix)
    np.testing.assert_array_equal(rounded(near), near)
    stored = packed({"m": near})
    assert stored["m"].dtype == np.int8
    np.testing.assert_array_equal(unpacked(stored)["m"], near)
    again = packed(unpacked(stored))
    assert all(np.array_equal(again[name], stored[name]) for name in stored)


@settings(deadline=None)
@given(MATRICES)
def test_rounding_moves_an_entry_by_at_most_a_step_of_its_column(matrix: np.ndarray) -> None:
    largest = np.abs(matrix.astype(np.float64)).max(axis=0, initial=0.0)
    # A step is at most twice 1/127 of the largest entry, the rounding half a step.
    assert (np.abs(rounded(matrix) - matrix.astype(np.float64)) <= largest / 127 + 1e-40).all()


def test_what_would_lose_something_is_stored_as_it_is() -> None:
    given_arrays = {
        "vector": np.arange(3, dtype=np.float32),
        "fine": np.array([[1.0, 2.0], [1.001, 3.0]], np.float32),
        "missing": np.array([[np.nan, 1.0]], np.float32),
    }
    stored = packed(given_arrays)
    assert set(stored) == set(given_arrays)
    for name, array in unpacked(stored).items():
        np.testing.assert_array_equal(array, given_arrays[name])
