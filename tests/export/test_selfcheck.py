from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from export import tensors
from export.prediction_log import LogWriter, read_log
from export.selfcheck import check, difference
from export.servable import Servable
from export.warmup import read_requests
from tests.export.conftest import Exported


class Damaged(Servable):
    """A servable whose folder's extras are a copy that a test may spoil."""

    def __init__(self, servable: Servable, folder: Path) -> None:
        shutil.copytree(servable.folder / "assets.extra", folder / "assets.extra")
        self.__dict__.update(servable.__dict__)
        self.folder = folder
        self.extra = folder / "assets.extra"


@pytest.fixture
def copy(servable: Servable, tmp_path: Path) -> Damaged:
    return Damaged(servable, tmp_path)


def _rewrite(copy: Damaged, change: Callable[[int, np.ndarray], np.ndarray]) -> None:
    path = copy.extra / "parity_requests.tfrecord"
    calls = list(read_log(path))
    with LogWriter(path) as log:
        for number, (request, response) in enumerate(calls):
            assert response is not None
            values = change(number, tensors.decode_any(response.outputs["click"]).copy())
            response.outputs["click"].CopyFrom(tensors.encode(values))
            log.write(request, response)


def _moved(by: float, request: int = 2) -> Callable[[int, np.ndarray], np.ndarray]:
    return lambda number, values: values + np.float32(by * (number == request))


def test_difference() -> None:
    a = np.array([1.0, np.nan, np.inf], np.float32)
    assert difference(a, a) == 0.0 and difference(a + np.array([0.25, 0, 0], np.float32), a) == 0.25
    for other in ([1.0, 2.0, np.inf], [1.0, np.nan, 3.0], [1.0, np.nan, -np.inf], [1.0, np.nan]):
        assert difference(a, np.array(other, np.float32)) == np.inf
    large = np.array([4096.0, -0.5, np.nan], np.float32)
    assert difference(large + np.array([1, 0, 0], np.float32), large) == 2.0**-12
    assert difference(large + np.array([1, 0.25, 0], np.float32), large) == 0.25
    assert difference(np.array([3]), np.array([3])) == 0.0 and difference(np.array([3]), np.array([4])) == np.inf


def test_a_sound_version_passes(copy: Damaged) -> None:
    check(copy)
    _rewrite(copy, _moved(5e-5))
    check(copy)


def test_other_scores_are_named(copy: Damaged) -> None:
    _rewrite(copy, _moved(0.5))
    with pytest.raises(CvrError, match=r"largest difference is 0\.5, of output 'click' of request 2 \(serving_default\)"):
        check(copy)
    _rewrite(copy, lambda number, values: values * np.float32(np.nan))
    with pytest.raises(CvrError, match="largest difference is inf"):
        check(copy)


def test_the_limit_is_the_version_s_own(copy: Damaged) -> None:
    _rewrite(copy, _moved(0.5))
    known = json.loads((copy.extra / "model.json").read_text(encoding="utf-8"))
    known["parity"]["selfcheck_tolerance"] = 0.6
    (copy.extra / "model.json").write_text(json.dumps(known), encoding="utf-8")
    check(copy)


def test_what_is_missing_or_damaged(copy: Damaged) -> None:
    path = copy.extra / "parity_requests.tfrecord"
    (request, _), *_ = read_log(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(CvrError, match="damaged or cut"):
        check(copy)
    with LogWriter(path) as log:
        log.write(request)
    with pytest.raises(CvrError, match="record 0 has no response"):
        check(copy)
    with LogWriter(path):
        pass
    with pytest.raises(CvrError, match="holds no request"):
        check(copy)
    path.unlink()
    with pytest.raises(CvrError, match="no assets.extra/parity_requests.tfrecord"):
        check(copy)
    path.write_bytes(whole)
    (copy.extra / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(CvrError, match="model.json is damaged"):
        check(copy)


def test_a_request_that_the_version_cannot_answer(copy: Damaged) -> None:
    path = copy.extra / "parity_requests.tfrecord"
    (request, response), *_ = read_log(path)
    request.inputs["price"].CopyFrom(tensors.encode(np.zeros(99, np.float32)))
    with LogWriter(path) as log:
        log.write(request, response)
    with pytest.raises(CvrError, match="cannot answer request 0 of its parity_requests.tfrecord: .*price"):
        check(copy)


def test_an_export_holds_warm_up_requests_of_every_batch_size(exported: Exported, servable: Servable) -> None:
    requests = read_requests(exported.version / "assets.extra" / "tf_serving_warmup_requests")
    lengths = [request.inputs["item_id"].tensor_shape.dim[0].size for request in requests if "item_id" in request.inputs]
    assert set(lengths) == {4, 5, 16} and {request.model_spec.signature_name for request in requests} >= {"serving_default", "score"}
    for request in requests:
        assert np.isfinite(servable.run_protos(request.model_spec.signature_name, request.inputs).popitem()[1]).all()
