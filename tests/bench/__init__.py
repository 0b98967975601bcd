"""The bench: measures what a call costs, beside others that do the same work. `make bench`."""
