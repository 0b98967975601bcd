"""References in values: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`.

They may stand anywhere in a value, several at once; keys and what a reference
brings in are not searched. `$${` is a literal `${`; any other `${` is a mistake,
so that a slip is never taken for text. The default is used when the variable is
unset or empty, as in a shell; it cannot contain `}`. A file's last line break is
left out, and a relative path starts at the folder of the YAML file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

MAX_FILE_BYTES: Final = 1 << 20
"""Largest file that a reference may bring in."""

_OPENING: Final = re.compile(r"\$\$\{|\$\{")
_REFERENCE: Final = re.compile(
    r"\$\{(?:env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?|file:(?P<file>[^}]+))\}", re.ASCII
)


class BadReference(ValueError):
    """A reference that is malformed or leads nowhere; the text says what to do."""


def is_whole(text: str) -> bool:
    """Whether the text is one reference and nothing else."""
    return _REFERENCE.fullmatch(text) is not None


def whole_file(text: str, folder: Path) -> Path | None:
    """The file, if the text is one reference to a file and nothing else."""
    match = _REFERENCE.fullmatch(text)
    return folder / match["file"] if match and match["file"] is not None else None


def files_in(text: str, folder: Path) -> Iterator[Path]:
    """The files that a text refers to."""
    return (folder / match["file"] for match in _REFERENCE.finditer(text) if match["file"] is not None)


def has_reference(text: str) -> bool:
    """Whether the text refers to anything."""
    return any(match[0] == "${" for match in _OPENING.finditer(text))


def expand(text: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Put what the references name in their place, in one pass from left to right.

    Raises:
        BadReference: one is malformed, its variable is not set, or its file cannot be read.
    """
    parts: list[str] = []
    end = 0
    while opening := _OPENING.search(text, end):
        parts.append(text[end : opening.start()])
        if opening[0] == "$${":
            parts.append("${")
            end = opening.end()
        elif reference := _REFERENCE.match(text, opening.start()):
            parts.append(_resolve(reference, folder, environment))
            end = reference.end()
        else:
            raise BadReference("expected ${env:NAME}, ${env:NAME:-default} or ${file:path}; write $${ for a literal ${")
    return "".join((*parts, text[end:]))


def _resolve(reference: re.Match[str], folder: Path, environment: Mapping[str, str]) -> str:
    if (file := reference["file"]) is not None:
        return read(folder / file)
    name, default = reference["name"], reference["default"]
    value = environment.get(name)
    if default is not None and not value:
        return default
    if value is None:
        raise BadReference(f"set the environment variable {name}, or give a default: ${{env:{name}:-...}}")
    # Bytes that are not UTF-8 arrive from the system as lone surrogates.
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadReference(f"expected text in UTF-8 in the environment variable {name}")
    return value


def read(file: Path) -> str:
    """The text of a file, without its last line break; at most `MAX_FILE_BYTES`.

    Raises:
        BadReference: it cannot be read, is no regular file, too large or no text.
    """
    try:
        if file.exists() and not file.is_file():
            # A pipe or a device could block the start or never end.
            raise BadReference(f"expected a regular file: {file}")
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BadReference):
            raise
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise BadReference(f"cannot read {file}: {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadReference(f"expected at most {MAX_FILE_BYTES >> 20} MiB in {file}")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadReference(f"expected text in UTF-8 in {file}") from None
