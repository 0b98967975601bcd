"""Eyes and ears: logs and traces."""
