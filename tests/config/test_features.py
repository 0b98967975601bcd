"""Contradictions between the bounds of sessions."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.features import FeatureSettings, feature_misfits


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        ({}, []),
        ({"max_sessions": 10}, []),
        ({"max_sessions": 10, "max_sessions_per_client": 11}, ["max_sessions_per_client"]),
        ({"session_event_bytes": "128MiB"}, ["session_event_bytes"]),
        ({"session_event_bytes": "128MiB", "total_event_bytes": "128MiB"}, []),
    ],
)
def test_a_bound_that_another_one_makes_idle_is_refused(written: dict[str, Any], keys: list[str]) -> None:
    found = list(feature_misfits(FeatureSettings.model_validate(written)))
    assert [finding.path for finding in found] == [("features", key) for key in keys]
