"""Ids of what is made: random UUIDs (version 4), as `uuid.uuid4` makes them.

That one asks the system for each and lets go of the interpreter meanwhile, so that two threads which make very many of them
mostly wait for each other; here they are drawn by the hundred.
"""

import os
from uuid import UUID

_DRAWN = 512
_RANDOM = ~(0xF << 76 | 0x3 << 62)
_VERSION_4 = 0x4 << 76 | 0x2 << 62

_ready: list[UUID] = []
os.register_at_fork(after_in_child=_ready.clear)


def new_id() -> UUID:
    """An id that nothing else has. For any thread."""
    while True:
        try:
            return _ready.pop()
        except IndexError:
            drawn = os.urandom(16 * _DRAWN)
            numbers = [int.from_bytes(drawn[at : at + 16], "big") for at in range(0, len(drawn), 16)]
            _ready.extend([UUID(int=one & _RANDOM | _VERSION_4) for one in numbers])
