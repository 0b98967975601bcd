"""Which part of the MCP SDK is loaded: what judges and runs a request, and not its web servers and HTTP clients.

Every import of the SDK runs `mcp/__init__` and `mcp.server/__init__`, which import all of it. Code that a
gateway never runs has no place in the process that holds the credentials, nor in its memory.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

_PACKAGES: Final = ("mcp", "mcp.server")


def spare() -> None:
    """Let the SDK's modules be imported without their packages' `__init__`; for use before the first of them.

    An `__init__` runs, late and once, when something asks its package for a name.
    """
    for name in _PACKAGES:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            continue
        package = importlib.util.module_from_spec(spec)
        package.__dict__["__getattr__"] = partial(_fill, package, spec.loader.exec_module)
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, package)


def _fill(package: ModuleType, run: Callable[[ModuleType], None], name: str) -> Any:
    """Answer for a package's missing attribute (PEP 562) with what its `__init__` defines."""
    if package.__dict__.pop("__getattr__", None) is not None:
        run(package)
    return getattr(package, name)
