"""One token, from the Authorization header (RFC 6750 section 2.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.bearer import MAX_TOKEN_BYTES, bearer_token
from gateway.errors import Unauthenticated


def reason(authorization: list[str], query: tuple[str, ...] = ()) -> str:
    with pytest.raises(Unauthenticated) as caught:
        bearer_token(authorization, query)
    return caught.value.reason


@pytest.mark.parametrize("value", ["Bearer a.b-c_d~e+f/g==", "bearer a.b-c_d~e+f/g==", "BEARER   a.b-c_d~e+f/g== \t"])
def test_the_scheme_has_no_case(value: str) -> None:
    assert bearer_token([value], ["page"]) == "a.b-c_d~e+f/g=="


@pytest.mark.parametrize(
    "values", [[], [""], ["Basic dXNlcjpwYXNz"], ["Bearerx y"], ["x"], ["DPoP abc"], ["\tBearer x"]]
)
def test_no_token_has_no_reason(values: list[str]) -> None:
    assert reason(values) == ""


@pytest.mark.parametrize(
    "value",
    [
        *("Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "Bearer a, Bearer b", "Bearer =", "Bearer a=b"),
        *('Bearer "a"', "Bearer é", "Bearer a\u0661", "Bearer a\x00", "Bearer a\n"),
    ],
)
def test_other_characters_are_refused(value: str) -> None:
    assert reason([value]) == "malformed"


def test_two_headers_are_refused() -> None:
    assert reason(["Bearer a", "Bearer a"]) == "several_tokens"
    assert reason(["Basic a", "Bearer a"]) == "several_tokens"


@pytest.mark.parametrize("name", ["access_token", "ACCESS_TOKEN"])
def test_a_token_in_the_url_is_refused_even_beside_a_good_one(name: str) -> None:
    assert reason([], (name,)) == "token_in_query"
    assert reason(["Bearer a"], ("page", name)) == "token_in_query"


def test_size_is_bounded() -> None:
    longest = "a" * MAX_TOKEN_BYTES
    assert bearer_token([f"Bearer {longest}"]) == longest
    assert reason([f"Bearer {longest}a"]) == "too_large"


@given(st.lists(st.text() | st.text().map("Bearer {}".format), max_size=2))
def test_any_header_gives_a_clean_token_or_unauthenticated(values: list[str]) -> None:
    try:
        token = bearer_token(values)
    except Unauthenticated:
        return
    assert token.isascii()
    assert not any(character in token for character in " ,\"'\\")
