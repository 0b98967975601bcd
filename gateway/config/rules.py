"""What an author writes of a tool's callers: conditions on the claims of their tokens."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.config.base import Settings, Text
from gateway.config.session import ClaimPath


def _is_scalar(value: Any) -> Any:
    """A float is none: no claim is equal to one by design."""
    if not isinstance(value, str | int):
        raise PydanticCustomError("scalar", "text, a whole number, true or false")
    return value


Scalar = Annotated[
    str | int | bool, BeforeValidator(_is_scalar), WithJsonSchema({"type": ["string", "integer", "boolean"]})
]


class RuleSettings(Settings):
    """One condition on a claim; exactly one comparison is written."""

    claim: ClaimPath
    """The claim, dots leading into nested ones; a token without it is denied."""
    equals: Scalar | None = None
    """What it is."""
    contains: Scalar | None = None
    """What is among its items; it is a list."""
    matches: Text | None = None
    """A regular expression for the whole of it; it is text of at most 256 characters."""
    one_of: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = Field(default=None, alias="in")
    """Values of which it is one."""
    equals_argument: Text | None = None
    """The argument that it must equal."""
    contains_argument: Text | None = None
    """The argument that must be among its items; of a list, every item must."""


COMPARISONS: Final = tuple(field.alias or name for name, field in RuleSettings.model_fields.items() if name != "claim")
"""The keys of a rule of which one is written."""
