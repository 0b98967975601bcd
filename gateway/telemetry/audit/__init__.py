"""The audit: a chained, redacted record of who did what, with its own guarantee."""
