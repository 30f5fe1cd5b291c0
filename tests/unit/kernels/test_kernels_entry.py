import numpy as np
import pytest

from clipcurate.kernels.entry import entries
from clipcurate.matching.kernels import count_ids

IDS, COUNTS = np.zeros(3, np.uint32), np.zeros(2, np.uint32)


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        (IDS.astype(np.int32), "int32, 1-dimensional"),
        (IDS.reshape(1, 3), "uint32, 2-dimensional"),
        (np.zeros(6, np.uint32)[::2], "not contiguous"),
        (np.zeros(13, np.uint8)[1:].view(np.uint32), "not aligned"),
    ],
)
def test_arrays_of_other_types_are_refused(ids: np.ndarray, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        count_ids(ids, COUNTS)


def test_the_number_of_arguments_is_checked() -> None:
    with pytest.raises(ValueError, match="zip"):
        count_ids(IDS)


def test_every_kernel_that_python_calls_is_known() -> None:
    assert {name for name, entry in entries().items() if callable(entry.source())} == {
        *("hash_joined", "hash_twice"),
        *("split_entries", "number_words", "link", "number_nodes"),
        *("place_words", "place_children", "match_texts", "take_rows", "count_ids"),
        *("first_uncounted", "critical", "misses"),
        "resample_rows",
    }
