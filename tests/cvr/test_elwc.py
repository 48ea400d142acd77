"""Format elwc: TF-Ranking's own dataset builder, protobuf and the decoder read back what was encoded, for every key."""

from __future__ import annotations

import numpy as np
import pytest

from cvr import elwc, records
from tests.support import random_columns, tiny_spec


def _assert_same(found: records.ListColumns, expected: records.ListColumns) -> None:
    for name in ("time", "lengths", "item", "position", "labels", "delay", "popularity", "context_num", "item_num"):
        got, wanted = getattr(found, name), getattr(expected, name)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)
    assert [bytes(s) for s in found.search_id] == [s.encode() if isinstance(s, str) else s for s in expected.search_id]
    assert found.cat.keys() == expected.cat.keys()
    for name in expected.cat:
        np.testing.assert_array_equal(found.cat[name], expected.cat[name], err_msg=name)
    for kind in ("bags", "sequences"):
        assert getattr(found, kind).keys() == getattr(expected, kind).keys()
        for name, wanted in getattr(expected, kind).items():
            for part, values in vars(wanted).items():
                np.testing.assert_array_equal(getattr(getattr(found, kind)[name], part), values, err_msg=f"{name} {part}")


@pytest.mark.parametrize(("lists", "seed"), [(1, 0), (40, 1)])
def test_decoding_gives_back_what_was_encoded(lists: int, seed: int) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, lists, seed)
    encoded = elwc.encode_elwc(spec, columns)
    decoded = elwc.decode_elwc(spec, encoded)
    _assert_same(decoded, columns)
    _assert_same(decoded, records.decode(spec, records.encode(spec, columns)))
    assert elwc.encode_elwc(spec, decoded) == encoded
