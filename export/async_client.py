"""The client for asyncio: the operations of `export.client.Client` as coroutines.

    async with AsyncClient("localhost:8500") as client:
        ranked = await client.rank(context={"query": "red shoes"}, items=[{"item_id": "i7"}, {"item_id": "i8"}])
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np

from cvr.errors import CvrError
from export.answers import RankedItem, RequestFailedError
from export.calls import Call, Calls, Prepared, Steps
from export.client import PARTS_AT_A_TIME, Options, stubs
from export.request import Search, Values
from export.retries import Attempts, Budget
from export.servable import DEFAULT_SIGNATURE

_T = TypeVar("_T")


class AsyncClient:
    """Calls one model on one server from one event loop. Make it inside the running loop; `close` it or use it in an `async with`."""

    def __init__(
        self,
        target: str,
        model_name: str = "cvr",
        version: int | str | None = None,
        timeout: float = 10.0,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> None:
        """As `Client`."""
        self.target, self._timeout, self._options = target, timeout, options
        self._calls, self._budget = Calls(model_name, version, options.split), Budget(options.retry)
        self._channel = options.connection.async_channel(target)
        self._methods = stubs(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def signatures(self) -> dict[str, Any]:
        """Signature definitions by name, asked once per version."""
        return dict((await self._run(self._calls.model())).signatures)

    async def status(self) -> dict[int, str]:
        """State by version."""
        return await self._run(self._calls.status())

    async def predict(
        self, inputs: Mapping[str, np.ndarray], signature: str = DEFAULT_SIGNATURE, outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Outputs of a signature by name, only `outputs` if given."""
        return (await self._run(self._calls.predict(inputs, signature, None, outputs)))[0]

    async def rank(
        self,
        context: Values,
        items: Sequence[Values],
        history: Mapping[str, Sequence[Values]] | None = None,
        timeout: float | None = None,
    ) -> list[RankedItem]:
        """As `Client.rank`."""
        return await self._run(self._calls.rank(Search(context, items, history or {})), timeout)

    async def rank_many(self, searches: Iterable[Search], in_flight: int = 32) -> list[list[RankedItem]]:
        """`rank` of each search, up to `in_flight` at a time, in their order. Raises the error of the first that fails; the others end."""
        room = asyncio.Semaphore(in_flight)

        async def one(search: Search) -> list[RankedItem]:
            async with room:
                return await self._run(self._calls.rank(search))

        return await _all([one(search) for search in searches])

    async def preprocess(
        self, context: Values, items: Sequence[Values], history: Mapping[str, Sequence[Values]] | None = None
    ) -> Prepared:
        """As `Client.preprocess`."""
        return await self._run(self._calls.preprocess(Search(context, items, history or {})))

    async def score(self, prepared: Prepared) -> list[RankedItem]:
        """As `Client.score`."""
        return await self._run(self._calls.score(prepared))

    async def _run(self, steps: Steps[_T], timeout: float | None = None) -> _T:
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        try:
            calls = next(steps)
            while True:
                try:
                    answers = await self._answers(calls, until)
                except CvrError as error:
                    calls = steps.throw(error)
                else:
                    calls = steps.send(answers)
        except StopIteration as done:
            return done.value

    async def _answers(self, calls: Sequence[Call], until: float) -> list[Any]:
        room = asyncio.Semaphore(PARTS_AT_A_TIME)

        async def one(call: Call) -> Any:
            async with room:
                return await self._answer(call, until)

        return await _all([one(call) for call in calls])

    async def _answer(self, call: Call, until: float) -> Any:
        attempts = Attempts(self._options.retry, self._budget)
        while True:
            try:
                answer = await self._methods[call.method](call.request, timeout=until - time.monotonic())
            except grpc.RpcError as error:
                pause = attempts.pause(error, until - time.monotonic())
                if pause is None:
                    raise RequestFailedError(self.target, error, attempts.made) from error
                await asyncio.sleep(pause)
            else:
                self._budget.earn()
                if self._options.log is not None and call.method == "Predict":
                    self._options.log.write(call.request, answer)
                return answer


async def _all(coroutines: Sequence[Any]) -> list[Any]:
    """Their results in order; where one fails, the others are cancelled and have ended before its error is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
