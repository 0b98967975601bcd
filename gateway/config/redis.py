"""What replicas share: a Redis for verdicts and rate limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.config.base import Secret, Settings, Text
from gateway.config.units import Duration

MIN_KEY_LENGTH = 32
"""Characters of the sealing key: what `openssl rand -base64 32` writes has 44."""


class RedisSettings(Settings):
    """The Redis that replicas share; without it each keeps its own state."""

    url: Text
    """Where it is: rediss://host:port/database; redis:// on loopback only."""
    user: Text | None = None
    """The account to log in as; Redis's default user when absent."""
    password: Secret | None = None
    """Its password, as a reference."""
    key: Secret
    """Seals what is stored, so that whoever reads or writes that Redis learns and gains nothing; as a reference."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "gateway:"
    """How its keys begin; the same for all replicas of one gateway, another for another gateway."""
    ca: Path | None = None
    """Certificates to trust; the system's when absent."""
    timeout: Annotated[Duration, Field(ge=0.01, le=5.0)] = 0.15
    """Longest wait for one answer, connecting included; then the request goes on without."""
