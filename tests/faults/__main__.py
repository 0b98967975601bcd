"""`python -m tests.faults`: every scenario at length, and the table of what callers saw."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run the scenarios and print the table; not 0 when one of them broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=main.__doc__)
    parser.add_argument("-k", metavar="WORDS", default="", help="only scenarios with them in their names")
    parser.add_argument("--short", action="store_true", help="the short form, as in make test")
    parser.add_argument("--write", action="store_true", help="put the table into docs/explanation/reliability.md")
    arguments = parser.parse_args()
    os.environ["GATEWAY_FAULTS"] = "short" if arguments.short else "long"
    # Only now: how long faults last is read when the scenarios are loaded.
    import pytest

    from tests.faults import report

    words = ["--quiet", "--timeout=900", "--durations=0", "--durations-min=1", str(Path(__file__).parent)]
    code = pytest.main([*words, "-k", arguments.k])
    print(f"\n{report.machine()}\n\n{report.text(report.ROWS)}")
    if not arguments.short:
        report.keep(report.ROWS)
    if arguments.write:
        report.write()
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
