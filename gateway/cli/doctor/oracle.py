"""What only Oracle has: a listener in front, wallets, and a session's languages and time zones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli.doctor import certificates
from gateway.cli.doctor.report import Outcome, Step
from gateway.config.sources import WALLET_FILE, OracleSettings
from gateway.database import oracle_wallet
from gateway.database.engine import Statement
from gateway.database.tls import TlsUnusable
from gateway.errors import Code, ToolError

_ANSWER: Final = re.compile(r"ORA-(12[1-6]\d\d)\b")
"""What listeners say (TNS-12150 to 12699)."""
_NLS: Final = (
    ("character set", "max(case parameter when 'NLS_CHARACTERSET' then value end)"),
    ("national character set", "max(case parameter when 'NLS_NCHAR_CHARACTERSET' then value end)"),
    ("language", "max(case parameter when 'NLS_LANGUAGE' then value end)"),
    ("territory", "max(case parameter when 'NLS_TERRITORY' then value end)"),
    ("comparison", "max(case parameter when 'NLS_COMP' then value end)"),
    ("time zone", "dbtimezone"),
    ("session's time zone", "sessiontimezone"),
)
_LISTED: Final = ", ".join(text for _, text in _NLS)
NLS: Final = Statement("nls", f"select {_LISTED} from nls_database_parameters", (), ())  # noqa: S608 - constants
"""The database's languages, and the time zones of the database and of the gateway's session."""


def wallet_step(folder: Path) -> Step:
    """Whose certificates a wallet has, and how long they are good."""
    try:
        found = oracle_wallet.certificates_of(folder)
        warnings = oracle_wallet.warnings_of(folder)
    except TlsUnusable as error:
        return Step("wallet", Outcome.FAILED, error.message, "Mount the wallet as the page on Oracle lays it out.")
    read = {each: certificates.read(each.public_bytes(Encoding.DER)) for each in found}
    own = [read[each] for each in found if not _is_authority(each)]
    trusted = [read[each] for each in found if _is_authority(each)]
    told = [f"ours, {each.subject}, {each.life()}" for each in own] or ["no certificate of ours"]
    told += [f"trusts {each.subject}, {each.life()}" for each in trusted]
    facts = {"own": [each.facts() for each in own], "trusted": [each.facts() for each in trusted]}
    text = f"{folder / WALLET_FILE}: {'; '.join(told)}"
    is_over = any(each.days < 0 for each in own) or (trusted and all(each.days < 0 for each in trusted))
    if is_over or any(each.is_ending for each in read.values()):
        outcome = Outcome.FAILED if is_over else Outcome.WARNING
        return Step(
            "wallet", outcome, text, "Put a renewed wallet in its place; each new connection reads it.", facts=facts
        )
    if warnings:
        return Step(
            "wallet", Outcome.WARNING, f"{text}; {'; '.join(warnings)}", "Correct the file's mode.", facts=facts
        )
    return Step("wallet", Outcome.OK, text, facts=facts)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return certificate.subject == certificate.issuer


def listener_step(settings: OracleSettings, error: ToolError | None) -> Step | None:
    """What the listener answered, told by how the login ended; None where it was not heard."""
    detail = "" if error is None else error.detail
    if answer := _ANSWER.search(detail):
        text, _, advice = detail.rpartition("; ")
        facts = {"error": f"ORA-{answer[1]}"}
        told = f"{advice[0].upper()}{advice[1:]}." if text else "Read the listener's own log."
        return Step("listener", Outcome.FAILED, text or detail, told, facts=facts)
    if error is not None and error.code is not Code.LOGIN_FAILED:
        return None
    return Step("listener", Outcome.OK, f"it knows {settings.service or 'the service'}")


def nls_step(values: tuple[str | None, ...]) -> Step:
    """The languages and time zones that the database told."""
    facts = {name: value for (name, _), value in zip(_NLS, values, strict=True) if value is not None}
    return Step("nls", Outcome.OK, ", ".join(f"{name} {value}" for name, value in facts.items()), facts=facts)
