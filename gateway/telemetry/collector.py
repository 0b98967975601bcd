"""What the environment says of a collector. Whoever is told of one imports what speaks to it, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping


def is_named(environment: Mapping[str, str], signal: str) -> bool:
    """Whether the environment names a collector for "TRACES" or "METRICS"; `otlp` alone means one at localhost."""
    chosen = environment.get(f"OTEL_{signal}_EXPORTER", "")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or chosen == "none":
        return False
    return chosen == "otlp" or any(environment.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))


def speaks_http(environment: Mapping[str, str], signal: str) -> bool:
    """Whether OTLP goes by HTTP; gRPC otherwise."""
    named = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return named == "http/protobuf"
