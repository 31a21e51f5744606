"""Ids that nothing else has."""

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

from app.ids import new_id


def made(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def test_ids_are_random_and_none_comes_twice_in_any_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        ids = [one for part in threads.map(made, [5_000] * 8) for one in part]
    assert len(set(ids)) == len(ids)
    assert {(one.version, one.variant) for one in ids} == {(4, RFC_4122)}
    # Of the 122 random bits each is set about half of the time.
    free = [bit for bit in range(128) if bit not in {62, 63, 76, 77, 78, 79}]
    assert all(0.45 < sum(one.int >> bit & 1 for one in ids) / len(ids) < 0.55 for bit in free)


def test_a_process_that_is_forked_makes_others() -> None:
    made(1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert UUID(bytes=os.read(reading, 16)) != new_id()
