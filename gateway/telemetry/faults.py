"""Errors that nobody expected: their stacks as the log shows them, and those that nobody caught."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any, Final

from gateway.telemetry.audit.detectors import looks_personal

_log: Final = logging.getLogger("gateway")
_MAX_CHAIN: Final = 50
_MAX_STACK: Final = 10_000
_MAX_WORDS: Final = 300
_WITHHELD: Final = "(withheld: this text is long or may be personal)"


def stack(formatter: logging.Formatter, exc_info: Any) -> str:
    """The stack of an exception; words that may quote somebody, or are long, are withheld, their places stay."""
    text, errors = formatter.formatException(exc_info), [exc_info[1]]
    for error in errors:
        if error is None or len(errors) > _MAX_CHAIN:
            continue
        words = str(error)
        if len(words) > _MAX_WORDS or looks_personal(words):
            text = text.replace(words, _WITHHELD)
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        errors += [each for each in (error.__cause__, error.__context__, *inner) if each not in errors]
    if len(text) > 2 * _MAX_STACK:
        return f"{text[:_MAX_STACK]}\n... ({len(text)} characters)\n{text[-_MAX_STACK:]}"
    return text


def catch_all() -> None:
    """Log what nobody catches, warnings included, for the rest of the process: it would be bare text on many lines."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _uncaught_in_passing


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the process; an interrupt from the keyboard is no fault."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("uncaught error, the process ends", exc_info=(kind, error, trace))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None:
        _log.error(
            "uncaught error in a thread",
            exc_info=(given.exc_type, given.exc_value, given.exc_traceback),
            extra={"thread_name": given.thread.name if given.thread else ""},
        )


def _uncaught_in_passing(given: sys.UnraisableHookArgs) -> None:
    """What a destructor or the like raised, where nobody can catch."""
    if given.exc_value is not None:
        _log.error("uncaught error in passing", exc_info=(type(given.exc_value), given.exc_value, given.exc_traceback))
