"""Secrets that live in files and change there while the process runs."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import SecretStr

from gateway.config.references import BadReference, read

log = logging.getLogger("gateway.config")


class FileSecret(SecretStr):
    """A secret that is always what its file says now.

    The file is read each time the value is asked for: that is when a connection
    opens, which is seldom. While the file cannot be read or is empty, as in the
    middle of a rotation, the last value stays.

    Args:
        file: where it is.
        value: what was read there first.
    """

    def __init__(self, file: Path, value: str) -> None:
        super().__init__(value)
        self._file = file

    def get_secret_value(self) -> str:
        """The value now."""
        try:
            value = read(self._file)
        except BadReference as trouble:
            log.warning("a secret stays as it was: %s", trouble)
        else:
            if value:
                self._secret_value = value
        return self._secret_value

    def __eq__(self, other: object) -> bool:
        """Whether it is the same file: what it says now is the same for both."""
        return isinstance(other, FileSecret) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)
