from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.buckets import ALL_VALUES, Bucket, Router, Splitter, expanded, group_of

thorough = settings(max_examples=600, deadline=None, database=None)
quick = settings(max_examples=240, deadline=None, database=None)

VOCABULARY = {"region": ("us", "eu", "asia"), "tier": ("gold", "basic"), "zone": ("a", "b", "c")}
REGION, TIER = {"region": ["us"]}, {"tier": ["gold"]}

filters_ = st.dictionaries(
    st.sampled_from(sorted(VOCABULARY)),
    st.lists(st.sampled_from(["us", "eu", "gold", "a", "b"]), min_size=1),
    min_size=1,
)
several = st.lists(filters_, max_size=12)
events = st.dictionaries(
    st.sampled_from(["region", "tier", "zone", "team", "other"]),
    st.sampled_from(["us", "eu", "gold", "a", "b", "x", ""]),
)


def narrower(one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> bool:
    """Whether the values of one are a strict subset of the other's on the same keys."""
    if one.keys() != other.keys():
        return False
    pairs = [(set(one[key]), set(other[key])) for key in one]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def naive(filters: Sequence[Mapping[str, Sequence[str]]], properties: Mapping[str, str]) -> int | None:
    """Metering spec 3.4, word for word; its third step is repeated for as long as it prefers anything."""
    candidates = [
        index
        for index, one in enumerate(filters)
        if all(properties.get(key) and properties[key] in values for key, values in one.items())
    ]
    if not candidates:
        return None
    most = max(len(filters[index]) for index in candidates)
    candidates = [index for index in candidates if len(filters[index]) == most]
    while preferred := [
        index for index in candidates if any(narrower(filters[index], filters[other]) for other in candidates)
    ]:
        candidates = preferred
    return candidates[0]


EXAMPLE = [{"region": [ALL_VALUES]}, {"region": ["us"]}, {"region": ["us"], "tier": ["gold"]}]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"region": "us", "tier": "gold"}, 2),
        ({"region": "us", "tier": "basic"}, 1),
        ({"region": "us"}, 1),
        ({"region": "us", "tier": ""}, 1),
        ({"region": "eu"}, 0),
        ({"region": "mars"}, None),
        ({"tier": "gold"}, None),
        ({"region": "", "tier": "gold"}, None),
        ({}, None),
    ],
)
def test_worked_example(properties: dict[str, str], expected: int | None) -> None:
    assert Router([expanded(one, VOCABULARY) for one in EXAMPLE]).route(properties) == expected


@pytest.mark.parametrize(
    ("filters", "properties", "expected"),
    [
        ([], {"region": "us"}, None),
        ([REGION, TIER], {"region": "us", "tier": "gold"}, 0),  # no key in common: the oldest
        ([TIER, REGION], {"region": "us", "tier": "gold"}, 0),
        ([REGION, REGION], {"region": "us"}, 0),  # identical: the oldest takes all
        ([{"region": ["us", "eu"]}, {"region": ["us", "asia"]}], {"region": "us"}, 0),  # overlapping: the oldest
        ([{"region": ["us", "eu"]}, {"region": ["eu", "us"]}], {"region": "us"}, 0),  # the same set in another order
        ([{"region": ["us", "eu", "asia"]}, {"region": ["us", "eu"]}, REGION], {"region": "us"}, 2),  # a chain
        ([REGION, {"region": ["us", "eu"]}, {"region": ["us", "eu", "asia"]}], {"region": "eu"}, 1),
        ([{"region": ["us"], "tier": ["gold", "basic"]}, {**REGION, **TIER}], {"region": "us", "tier": "gold"}, 1),
        ([REGION, {"region": ["us", "eu"], "tier": ["gold"]}], {"region": "us", "tier": "gold"}, 1),  # keys go first
        ([{"region": []}, REGION], {"region": "us"}, 1),  # a list that has run empty takes nothing
    ],
)
def test_routing(filters: list[dict[str, list[str]]], properties: dict[str, str], expected: int | None) -> None:
    assert Router(filters).route(properties) == expected
    assert naive(filters, properties) == expected


@thorough
@given(several, st.lists(events, max_size=8))
def test_as_the_rule_is_told(filters: list[dict[str, list[str]]], sent: list[dict[str, str]]) -> None:
    router = Router(filters)
    assert set(router.keys) == {key for one in filters for key in one}
    for properties in sent:
        assert router.route(properties) == naive(filters, properties)


@quick
@given(several, events)
def test_a_match_is_never_left_out(filters: list[dict[str, list[str]]], properties: dict[str, str]) -> None:
    chosen = Router(filters).route(properties)
    matches = [
        index
        for index, one in enumerate(filters)
        if all(properties.get(key) and properties[key] in values for key, values in one.items())
    ]
    assert chosen in matches if matches else chosen is None


def test_thousands_of_filters() -> None:
    """One filter per pair of values, one per region, one for all: each event finds its own."""
    regions, tiers = [f"r{number}" for number in range(60)], [f"t{number}" for number in range(60)]
    filters = [{"region": regions}, *({"region": [one]} for one in regions)]
    filters += [{"region": [region], "tier": [tier]} for region in regions for tier in tiers]
    router = Router(filters)
    for number in range(0, 60, 7):
        region, tier = regions[number], tiers[59 - number]
        assert router.route({"region": region}) == 1 + number
        assert filters[router.route({"region": region, "tier": tier}) or 0] == {"region": [region], "tier": [tier]}
    assert router.route({"region": "r60", "tier": "t1"}) is None


def test_expanded() -> None:
    values = {"region": [ALL_VALUES], "tier": ["gold"], "gone": [ALL_VALUES]}
    assert expanded(values, VOCABULARY) == {"region": ("us", "eu", "asia"), "tier": ("gold",), "gone": ()}


def test_group_of() -> None:
    properties = {"team": "a", "empty": "", "zero": "0"}
    assert group_of(properties, ("team", "empty", "zero", "none")) == ("a", None, "0", None)
    assert group_of(properties, ()) == ()


def test_a_filter_brings_its_own_groups() -> None:
    splitter = Splitter([REGION, TIER], ["team"], [[], ["zone", "team"]], ["desk"])
    assert splitter.keys == ("desk", "region", "team", "tier", "zone")

    def bucket(**properties: str) -> Bucket:
        return splitter.bucket([properties.get(key, "") for key in splitter.keys])

    assert bucket(team="a", desk="d") == Bucket(None, ("a",), ("d",))
    assert bucket(region="us", team="a") == Bucket(0, (), (None,))
    assert bucket(tier="gold", team="a") == Bucket(1, (None, "a"), (None,))
    assert bucket() == Bucket(None, (None,), (None,))
    with pytest.raises(ValueError, match="group keys"):
        Splitter([REGION], ["team"], [])


@quick
@given(several, st.lists(st.sampled_from(["team", "region"]), unique=True), st.lists(events, max_size=20), st.data())
def test_buckets_partition_usage(
    filters: list[dict[str, list[str]]], keys: list[str], sent: list[dict[str, str]], data: st.DataObject
) -> None:
    own = [data.draw(st.lists(st.sampled_from(["team", "zone"]), unique=True)) for _ in filters]
    splitter = Splitter(filters, keys, own, ["tier"])
    counted = Counter(splitter.bucket([one.get(key) for key in splitter.keys]) for one in sent)
    assert counted.total() == len(sent)
    for properties in sent:
        chosen = naive(filters, properties)
        groups = keys if chosen is None else own[chosen]
        bucket = Bucket(chosen, group_of(properties, groups), group_of(properties, ["tier"]))
        counted[bucket] -= 1
    assert set(counted.values()) <= {0}
