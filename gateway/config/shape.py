"""What the models say about a key: which settings belong there, and whether it is a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import SecretStr

from gateway.config.base import Settings
from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath

NAMED: Final = frozenset(
    name for name, field in GatewaySettings.model_fields.items() if get_origin(field.annotation) is Mapping
)
"""The sections whose keys are names given by the operator: each name is defined in one place."""


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation admits, without `Annotated`, unions and None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from leaves(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from leaves(each)
    elif annotation is not type(None):
        yield annotation


def _inside(leaf: Any, key: str | int) -> Iterator[Any]:
    if isinstance(leaf, type) and issubclass(leaf, Settings):
        for name, field in leaf.model_fields.items():
            if key == (field.alias or name):
                yield from leaves(field.annotation)
    elif get_origin(leaf) in (Mapping, dict):
        yield from leaves(get_args(leaf)[1])
    elif get_origin(leaf) is tuple:
        yield from leaves(get_args(leaf)[0])


def types_at(path: KeyPath) -> tuple[Any, ...]:
    """The types that the value at a key may have; empty for an unknown key."""
    found: tuple[Any, ...] = (GatewaySettings,)
    for key in path:
        found = tuple(each for leaf in found for each in _inside(leaf, key))
    return found


def keys_at(path: KeyPath, engine: object = None) -> tuple[str, ...]:
    """The known keys of a mapping, sorted; of a source only those of its engine."""
    models = [leaf for leaf in types_at(path) if isinstance(leaf, type) and issubclass(leaf, Settings)]
    fitting = [model for model in models if engine is not None and engine in _engines(model)]
    return tuple(sorted({key for model in fitting or models for key in _keys(model)}))


def _keys(model: type[Settings]) -> Iterator[str]:
    """The keys of a model as they are written."""
    return (field.alias or name for name, field in model.model_fields.items())


def engines() -> tuple[str, ...]:
    """The engines of this version, sorted."""
    models = types_at(("sources", "any"))
    return tuple(sorted({engine for model in models for engine in _engines(model)}))


def _engines(model: type[Settings]) -> tuple[str, ...]:
    field = model.model_fields.get("engine")
    return get_args(field.annotation) if field else ()


def is_secret(path: KeyPath) -> bool:
    """Whether the value at a key must never be shown."""
    return SecretStr in types_at(path)
