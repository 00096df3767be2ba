"""Do several things at once, within bounds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def all_of(calls: Iterable[Callable[[], Awaitable[_T]]], at_once: int) -> list[_T]:
    """Return what all *calls* give, in their order, *at_once* under way at a time.

    The first error ends the others, which are waited for, and is raised as itself.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(call: Callable[[], Awaitable[_T]]) -> _T:
        async with gate:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several.exceptions[0].__cause__
    return [task.result() for task in tasks]
