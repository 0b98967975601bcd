"""Failure scenarios: real faults under a steady load of authenticated calls, and what callers saw of them.

`make faults` runs them at length and prints a table; `make test` runs the same scenarios in their short form.
"""
