"""What all settings are made of."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, SecretStr, StringConstraints
from pydantic_core import CoreSchema

from gateway.config.units import Duration, Size

Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
Timeout = Annotated[Duration, Field(gt=0.0)]
ResultSize = Annotated[Size, Field(ge=1024, le=1 << 30)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Settings(BaseModel):
    """The base of all: frozen, closed, and its field docstrings are its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler, /) -> dict[str, Any]:
        """Describe the fields; pydantic's own `use_attribute_docstrings` reads all sources at every start."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, text in _docstrings(cls):
            properties[cls.model_fields[name].alias or name].setdefault("description", text)
        return schema


def _docstrings(model: type[Settings]) -> Iterator[tuple[str, str]]:
    """The string below each field, its own before those that it inherits."""
    for kind in model.__mro__[: model.__mro__.index(Settings)]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        for field, below in pairwise(tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else ()):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    yield name, inspect.cleandoc(text)
