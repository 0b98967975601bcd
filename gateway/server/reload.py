"""When the configuration is read again, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config.files import Watch
from gateway.config.loader import Configuration
from gateway.config.problems import ConfigError
from gateway.config.restart import MOST_CHANGES
from gateway.errors import GatewayError
from gateway.server.auditing import note_refusal, note_reload
from gateway.server.live import Live, NotReady, Replaced
from gateway.telemetry.audit.configuration import settings_hash

_log: Final = logging.getLogger("gateway.server")
Read = Callable[[set[Path]], Configuration]
"""Reads the configuration whole; puts the files that it refers to into the set, also when it raises ConfigError."""

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the files."""
QUIET: Final = 0.3
"""Seconds for which nothing may change before the files are read: they may be written one after the other."""
_MOST_LOOKS: Final = 20
TRY_AGAIN: Final = 30.0
"""Seconds until a configuration is tried again that was right, but named what could not be reached."""


@dataclass(slots=True)
class Reloads:
    """What became of the reloads so far.

    Attributes:
        succeeded: configurations taken over, those included that changed nothing.
        failed: configurations refused.
        hash: SHA-256 of the settings in force, secrets left out, as the audit records it.
        at: Unix time when they were last found good.
    """

    succeeded: int = 0
    failed: int = 0
    hash: str = ""
    at: float = 0.0


class Reloader:
    """Watches the files of a configuration, and replaces what is running when they change.

    Args:
        path: the configuration, a file or a folder.
        read: reads it.
        look_every: seconds between two looks at the files.

    Attributes:
        reloads: what became of them.
    """

    def __init__(self, path: Path, read: Read, look_every: float = LOOK_EVERY) -> None:
        self.reloads = Reloads()
        self._read = read
        self._look_every = look_every
        self._watch = Watch(path)
        self._asked = asyncio.Event()
        self._again_at = float("inf")

    def read_first(self) -> Configuration:
        """The configuration to start with.

        Raises:
            ConfigError: it has problems.
        """
        configuration = self._take()
        self.reloads.hash, self.reloads.at = settings_hash(configuration.settings), time.time()
        return configuration

    def ask(self) -> None:
        """Read the files now, whether they have changed or not."""
        self._asked.set()

    @asynccontextmanager
    async def watching(self, live: Live) -> AsyncIterator[None]:
        """Reload what is running, whenever it is asked for or due, until the block ends."""
        task = asyncio.create_task(self._run(live))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, live: Live) -> None:
        while True:
            try:
                await self.reload(live, await self._occasion())
            except Exception:  # noqa: BLE001 - watching goes on, whatever a file system raised
                _log.exception("the files of the configuration cannot be watched")
                await asyncio.sleep(self._look_every)

    async def _occasion(self) -> str:
        """Wait for a reason to read the files; its name."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._look_every):
                    await self._asked.wait()
            except TimeoutError:
                if await asyncio.to_thread(self._watch.look):
                    await self._until_quiet()
                    return "a file changed"
                if loop.time() >= self._again_at:
                    return "what was not ready may be now"
            else:
                self._asked.clear()
                await asyncio.to_thread(self._watch.look)
                return "asked for"

    async def _until_quiet(self) -> None:
        for _ in range(_MOST_LOOKS):
            await asyncio.sleep(QUIET)
            if not await asyncio.to_thread(self._watch.look):
                return

    def _take(self) -> Configuration:
        """Read everything, and watch what was read; of a configuration with problems, what was read before, too."""
        followed: set[Path] = set()
        try:
            configuration = self._read(followed)
        except BaseException:
            self._watch.follow(self._watch.followed | followed)
            raise
        self._watch.follow(followed)
        return configuration

    async def reload(self, live: Live, reason: str) -> bool:
        """Read the files and put them into force; whether that went well. What is running stays if it did not."""
        self._again_at = float("inf")
        try:
            replaced = await live.replace(await asyncio.to_thread(self._take))
        except ConfigError as error:
            problems = "; ".join(map(str, error.problems))
            keys = [".".join(map(str, each.path)) for each in error.problems]
            self._failed(live, reason, f"{len(keys)} problem(s): {problems}", keys)
        except NotReady as error:
            self._again_at = asyncio.get_running_loop().time() + TRY_AGAIN
            self._failed(live, reason, f"{error.message}; it is tried again in {TRY_AGAIN:g} s", error.missing)
        except GatewayError as error:
            self._failed(live, reason, error.message)
        except Exception:  # noqa: BLE001 - whatever it was, what is running goes on
            self._failed(live, reason, "a fault inside the gateway", is_fault=True)
        else:
            self._succeeded(live, reason, replaced)
            return True
        return False

    def _failed(
        self, live: Live, reason: str, why: str, problems: Sequence[str] = (), *, is_fault: bool = False
    ) -> None:
        self.reloads.failed += 1
        text = "the configuration stays as it was, the new one is refused: %s"
        _log.error(text, why, extra={"trigger": reason, "hash": self.reloads.hash}, exc_info=is_fault)
        snapshot = live.current.snapshot
        note_refusal(snapshot.audit, reason, snapshot.settings, problems[:MOST_CHANGES])

    def _succeeded(self, live: Live, reason: str, replaced: Replaced) -> None:
        before, self.reloads.hash = self.reloads.hash, settings_hash(replaced.after)
        self.reloads.succeeded += 1
        self.reloads.at = time.time()
        told = {"trigger": reason, "hash": self.reloads.hash, "hash_before": before, "changes": list(replaced.changes)}
        _log.info("configuration reloaded" if replaced.changes else "configuration read again: no change", extra=told)
        note_reload(live.current.snapshot.audit, reason, replaced.before, replaced.after)
        if replaced.waiting:
            text = "a restart is needed for: %s; everything else is in force"
            _log.warning(text, ", ".join(replaced.waiting), extra=told)
