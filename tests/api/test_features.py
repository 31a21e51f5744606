"""`/api/v1/features` and the privileges of features."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.factories import Json, make_feature, make_plan, ok, problems, refusal, set_clock

URL = "/api/v1/features"
SELECT = {
    "code": "provider",
    "name": "SSO Provider",
    "value_type": "select",
    "config": {"select_options": ["okta", "ad"]},
}


def put(api: httpx.Client, code: str = "seats", **fields: object) -> httpx.Response:
    return api.put(f"{URL}/{code}", json={"feature": fields})


def feature_of(response: httpx.Response) -> Json:
    feature: Json = ok(response)["feature"]
    return feature


def test_create_find_update_delete(api: httpx.Client) -> None:
    set_clock(api, "2024-05-10T12:00:00Z")
    privileges = [{"code": "max", "name": "Maximum", "value_type": "integer"}, {"code": "note"}, SELECT]
    made = make_feature(api, description="People with a login", privileges=privileges)
    assert made == {
        "code": "seats", "name": "Seats", "description": "People with a login", "created_at": "2024-05-10T12:00:00Z",
        "privileges": [
            {"code": "max", "name": "Maximum", "value_type": "integer", "config": {}},
            {"code": "note", "name": None, "value_type": "string", "config": {}},
            SELECT,
        ],
    }  # fmt: skip
    assert feature_of(api.get(f"{URL}/seats")) == made
    assert feature_of(api.put(f"{URL}/seats", json={"feature": {"name": None, "code": "other"}})) == {
        **made,
        "name": None,
    }
    assert feature_of(put(api, description="d", privileges=None)) == {**made, "name": None, "description": "d"}
    assert feature_of(api.delete(f"{URL}/seats"))["code"] == "seats"
    for response in (api.get(f"{URL}/seats"), api.delete(f"{URL}/seats"), put(api, name="x")):
        assert refusal(response) == (404, "feature_not_found")
    assert make_feature(api)["privileges"] == []


def test_nothing_but_a_code_is_needed(api: httpx.Client) -> None:
    made = feature_of(api.post(URL, json={"feature": {"code": "sso"}}))
    assert (made["name"], made["description"], made["privileges"]) == (None, None, [])


def test_privileges_are_named_anew_extended_and_added_and_never_lost(api: httpx.Client) -> None:
    maximum = {"code": "max", "name": "Maximum", "value_type": "integer", "config": {}}
    make_feature(api, privileges=[maximum, SELECT])
    sent = [
        {"code": "provider", "config": {"select_options": ["google", "okta"]}},
        {"code": "root", "value_type": "boolean"},
        {"code": "max", "name": None, "value_type": "integer"},
    ]
    privileges = [
        {**maximum, "name": None},
        {**SELECT, "config": {"select_options": ["okta", "ad", "google"]}},
        {"code": "root", "name": None, "value_type": "boolean", "config": {}},
    ]
    assert feature_of(put(api, privileges=sent))["privileges"] == privileges
    assert feature_of(put(api, privileges=[]))["privileges"] == privileges
    left = feature_of(api.delete(f"{URL}/seats/privileges/provider"))
    assert [one["code"] for one in left["privileges"]] == ["max", "root"]
    assert feature_of(api.get(f"{URL}/seats")) == left
    for path in ("seats/privileges/provider", "seats/privileges/none"):
        assert refusal(api.delete(f"{URL}/{path}")) == (404, "privilege_not_found")
    assert refusal(api.delete(f"{URL}/none/privileges/max")) == (404, "feature_not_found")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"code": "a/../b"}, {"code": ["value_is_invalid"]}),
        ({"code": "x" * 256}, {"code": ["value_is_too_long"]}),
        ({"name": "x" * 256, "description": "x" * 601},
         {"name": ["value_is_too_long"], "description": ["value_is_too_long"]}),
        ({"name": 5}, {"name": ["value_is_invalid"]}),
        ({"privileges": {}}, {"privileges": ["value_is_invalid"]}),
        ({"privileges": [{}]}, {"privilege.code": ["value_is_mandatory"]}),
        ({"privileges": [{"code": "a"}, {"code": "a"}]}, {"privilege.code": ["value_already_exist"]}),
        ({"privileges": [{"code": "a//b"}]}, {"privilege.code": ["value_is_invalid"]}),
        ({"privileges": [{"code": "a" * 256}]}, {"privilege.code": ["value_is_too_long"]}),
        ({"privileges": [{"code": "a", "value_type": "float"}]}, {"privilege.value_type": ["value_is_invalid"]}),
        ({"privileges": [{"code": "a", "value_type": "select"}]}, {"privilege.config": ["value_is_mandatory"]}),
        ({"privileges": [{"code": "a", "value_type": "select", "config": {"select_options": [""]}}]},
         {"privilege.config": ["value_is_invalid"]}),
        ({"privileges": [{"code": "a", "config": {"select_options": ["b"]}}]},
         {"privilege.config": ["value_must_be_blank"]}),
        ({"privileges": [{"code": "a", "config": {"select_options": "b"}}]}, {"select_options": ["value_is_invalid"]}),
        ({"privileges": [{"code": "max", "value_type": "string"}]}, {"privilege.value_type": ["value_is_invalid"]}),
    ],
)  # fmt: skip
def test_broken_rules(api: httpx.Client, fields: Json, wanted: Json) -> None:
    made = make_feature(api, privileges=[{"code": "max", "value_type": "integer"}])
    if fields.get("privileges") != [{"code": "max", "value_type": "string"}]:
        assert problems(api.post(URL, json={"feature": {"code": "new", **fields}})) == wanted
    if "code" not in fields:
        assert problems(put(api, **fields)) == wanted
    listed = ok(api.get(URL))["features"]
    assert listed == [made]


def test_codes_are_unique_in_an_organization(api: httpx.Client, other: httpx.Client) -> None:
    make_feature(api)
    assert problems(api.post(URL, json={"feature": {"code": "seats"}})) == {"code": ["value_already_exist"]}
    assert problems(api.post(URL, json={"feature": {}})) == {"code": ["value_is_mandatory"]}
    make_feature(other, name="Theirs")
    assert feature_of(api.get(f"{URL}/seats"))["name"] == "Seats"
    ok(other.delete(f"{URL}/seats"))
    assert refusal(other.get(f"{URL}/seats")) == (404, "feature_not_found")
    assert feature_of(api.get(f"{URL}/seats"))["name"] == "Seats"


def test_lists(api: httpx.Client) -> None:
    for hour, (code, name) in enumerate([("seats", "Users"), ("sso", "Sign-on"), ("api_100%", "API")]):
        set_clock(api, f"2024-05-10T{hour:02}:00:00Z")
        make_feature(api, code, name=name)

    def found(**query: object) -> list[str]:
        return [one["code"] for one in ok(api.get(URL, params=query))["features"]]  # type: ignore[arg-type]

    assert found() == ["api_100%", "sso", "seats"]
    assert found(search_term="S") == ["sso", "seats"]
    assert found(search_term="user") == ["seats"]
    assert found(search_term="%") == ["api_100%"]
    assert found(search_term="none") == []
    assert found(per_page=1, page=2) == ["sso"]
    assert ok(api.get(URL, params={"per_page": 2}))["meta"] == {
        "current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 3,
    }  # fmt: skip


def test_codes_with_slashes_and_dots(api: httpx.Client) -> None:
    make_feature(api, "v2/sso.saml", privileges=[{"code": "a/b.c"}, {"code": "d%2Fe"}])
    assert feature_of(api.get(f"{URL}/v2/sso.saml"))["code"] == "v2/sso.saml"
    assert feature_of(api.get(f"{URL}/v2%2Fsso.saml"))["code"] == "v2/sso.saml"
    left = feature_of(api.delete(f"{URL}/v2/sso.saml/privileges/a/b.c"))["privileges"]
    assert [one["code"] for one in left] == ["d%2Fe"]
    assert feature_of(api.delete(f"{URL}/v2/sso.saml/privileges/d%252Fe"))["privileges"] == []
    assert feature_of(put(api, "v2/sso.saml", name="SAML"))["name"] == "SAML"
    ok(api.delete(f"{URL}/v2/sso.saml"))
    assert ok(api.get(URL))["features"] == []


def test_a_feature_and_what_plans_have_of_it_change_at_once(api: httpx.Client) -> None:
    """A value that is set while its privilege goes is either refused or gone with it."""
    make_plan(api)
    for number in range(5):
        code = f"feature-{number}"
        make_feature(api, code, privileges=[{"code": "max", "value_type": "integer"}, {"code": "other"}])
        calls = [
            lambda code=code: api.patch("/api/v1/plans/plan/entitlements", json={"entitlements": {code: {"max": 5}}}),
            lambda code=code: api.delete(f"{URL}/{code}/privileges/max"),
        ]
        with ThreadPoolExecutor(2) as pool:
            set_, removed = pool.map(lambda call: call(), calls)
        assert removed.status_code == 200
        assert set_.status_code == 200 or refusal(set_) == (404, "privilege_not_found")
        put(api, code, privileges=[{"code": "max", "value_type": "integer"}])
        included = ok(api.get("/api/v1/plans/plan/entitlements"))["entitlements"]
        assert all(one["privileges"] == [] for one in included)
