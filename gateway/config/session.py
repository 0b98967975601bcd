"""The types of what a source takes from the token: settings of the database session, and where values come from."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"
_PATH: Final = r"[^\s.]+(\.[^\s.]+)*"
_ORIGIN: Final = rf"^(subject|issuer|client_id|correlation_id|claim:{_PATH})$"
_LONGEST: Final = 63
_PROCEDURE: Final = r"^[A-Za-z][A-Za-z0-9_$#]*(\.[A-Za-z][A-Za-z0-9_$#]*){0,2}$"


def _is_name(text: str) -> str:
    """A custom setting of PostgreSQL has a prefix (PostgreSQL documentation, section 20.16)."""
    if not re.fullmatch(_NAME, text) or len(text) > _LONGEST:
        message = "a name with a dot, such as app.tenant: letters, digits and _, at most 63 characters"
        raise PydanticCustomError("session_name", message)
    return text


def _is_origin(text: str) -> str:
    if not re.fullmatch(_ORIGIN, text):
        raise PydanticCustomError("session_origin", "subject, issuer, client_id, correlation_id or claim:PATH")
    return text


def _is_path(text: str) -> str:
    if not re.fullmatch(_PATH, text):
        raise PydanticCustomError("claim_path", "the name of a claim, with dots into nested ones")
    return text


def _is_procedure(text: str) -> str:
    if not re.fullmatch(_PROCEDURE, text):
        raise PydanticCustomError("procedure_name", "a procedure's name, such as SECURITY.APP_CTX.SET_VALUE")
    return text


SessionName = Annotated[str, AfterValidator(_is_name), WithJsonSchema({"type": "string", "pattern": _NAME})]
SessionOrigin = Annotated[str, AfterValidator(_is_origin), WithJsonSchema({"type": "string", "pattern": _ORIGIN})]
ClaimPath = Annotated[str, AfterValidator(_is_path), WithJsonSchema({"type": "string", "pattern": f"^{_PATH}$"})]
ProcedureName = Annotated[str, AfterValidator(_is_procedure), WithJsonSchema({"type": "string", "pattern": _PROCEDURE})]
