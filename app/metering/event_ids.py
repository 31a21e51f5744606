"""Ids of events: version 8 UUIDs made of a hash of the key, so that they are the same wherever they are asked for."""

from collections.abc import Collection

from xxhash import xxh3_128_digest

from app.metering.keys import Key

SHAPE = b"00000000-0000-8000-0000-000000000000"
PLACES = [place for place, character in enumerate(SHAPE) if character != ord("-")]
MANY = 20
VERSION_DIGIT, VARIANT_DIGIT = 12, 16
VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


def event_id(key: Key) -> str:
    """The id of the event with a key."""
    digits = _hash(key).hex()
    variant = chr(VARIANTS[ord(digits[VARIANT_DIGIT])])
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def event_ids(keys: Collection[Key]) -> list[str]:
    """The ids of events, in the order of their keys."""
    if len(keys) < MANY:
        return [event_id(key) for key in keys]
    # Digit by digit for all of them at once, in half the time.
    try:
        hashes = [*map(xxh3_128_digest, map(str.encode, map("\x00".join, keys)))]
    except UnicodeEncodeError:
        hashes = [_hash(key) for key in keys]
    digits = b"".join(hashes).hex().encode()
    ids = bytearray(SHAPE * len(keys))
    for digit, place in enumerate(PLACES):
        if digit != VERSION_DIGIT:
            these = digits[digit :: len(PLACES)]
            ids[place :: len(SHAPE)] = these.translate(VARIANTS) if digit == VARIANT_DIGIT else these
    text = ids.decode()
    return [text[start : start + len(SHAPE)] for start in range(0, len(text), len(SHAPE))]


def _hash(key: Key) -> bytes:
    """Of any key, half of a surrogate pair in it too, which takes longer to allow for than all the rest."""
    return xxh3_128_digest("\x00".join(key).encode("utf-8", "surrogatepass"))
