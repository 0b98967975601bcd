"""Oracle's failures by number (Oracle Database Error Messages), and the driver's own by theirs (DPY-)."""

from __future__ import annotations

import re
import socket
import ssl
from types import MappingProxyType
from typing import Any, Final

import oracledb

from gateway.database import tls
from gateway.database.failures import failure
from gateway.errors import Code, ToolError

_NUMBERS: Final = {
    Code.LOGIN_FAILED: "988 1004 1005 1017 1045 1920 1988 28150 28273",
    Code.ACCESS_DENIED: "1031 1720 1749 1950 28115 41900",
    Code.SOURCE_UNAVAILABLE: (
        "18 20 257 1033 1034 1089 1090 1109 1219 1536 1628 1631 1650 1652 1653 1654 1688 1691 2391 4030 4031 "
        "27101 30036"
    ),
    Code.CONNECTION_LOST: (
        "22 28 31 1012 1041 1092 2396 2399 3113 3114 3135 12537 12547 12570 12571 12572 12583 12592 12609 24315"
    ),
    Code.READ_ONLY: "372 1456 1466 12081 16000 16001",
    Code.STATEMENT_TIMEOUT: "40 1013 2392 2393 2394 2395 56735",
    Code.CONFLICT: "51 54 60 104 1555 1591 4020 4021 4061 4065 4068 8176 8177 18014 25402 25408 30006",
    Code.CONSTRAINT_VIOLATION: "1 1400 1402 1407 2290 2291 2292 2293",
    Code.INVALID_VALUE: (
        "1401 1403 1405 1406 1422 1424 1425 1426 1427 1428 1438 1455 1457 1460 1461 1465 1476 1481 1482 1483 1489 "
        "1722 6502 6503 6504 6510 6511 6512 6531 6532 6533 6592 12725 12726 12727 12728 12733 12899 19011 22814 "
        "22835 22990 24381 29261 31011"
    ),
    Code.STATEMENT_INVALID: (
        "1006 1007 1008 1036 1446 1453 2000 2019 2025 2068 2085 2287 2289 4042 4043 4044 4045 4063 4067 4088 4098 "
        "6540 6550 6553 6572 6573 6575 6576 6577 12704 14551 14552 22806 22807 22858 22859 22902 25137 25154 25156 "
        "28110 28112 28113 30081 30089 30371 30483 30484 30625 32031 32034 32036 32039"
    ),
}
_CODES: Final = MappingProxyType({int(number): code for code, text in _NUMBERS.items() for number in text.split()})
_RANGES: Final = (
    (900, 999, Code.STATEMENT_INVALID),
    (1700, 1799, Code.STATEMENT_INVALID),
    (1800, 1899, Code.INVALID_VALUE),
    (12150, 12699, Code.SOURCE_UNAVAILABLE),  # the listener and the network (TNS-)
    (20000, 20999, Code.INVALID_VALUE),  # RAISE_APPLICATION_ERROR
    (28000, 28099, Code.LOGIN_FAILED),
    (40400, 40999, Code.INVALID_VALUE),  # JSON
)
"""For numbers that are not listed."""
_DRIVER: Final = {
    Code.LOGIN_FAILED: "2031 2032 2033 2034 3015 4001 4034",
    Code.SOURCE_UNAVAILABLE: (
        "2018 2029 2049 2059 3001 3010 3012 3040 4000 4017 4018 4019 4021 4022 4026 4027 4028 4032 4035"
        " 6000 6001 6002 6003 6004 6005 6006"
    ),
    Code.CONNECTION_LOST: "1001 3008 4011 4033 5000 5001 5002 5003 5004 5005 5006 5009 5010 5014",
    Code.STATEMENT_TIMEOUT: "4024",
    Code.UNREPRESENTABLE: "3019 3021 3022 3023 3024 5007 5015",
    Code.STATEMENT_INVALID: "1003 2041 2042 2046 2048 2066 3006 3007 3017 3018 4007 4008 4009 4010 4025",
    Code.INVALID_VALUE: "2043 2044 3002 3003 3013 3020 4002 4003 4004 4012 4013 4014 4015 4016 8000",
}
_DRIVER_CODES: Final = MappingProxyType(
    {int(number): code for code, text in _DRIVER.items() for number in text.split()}
)
_FULL: Final = "the server's `processes` or `sessions` are used up; lower pool.max, or raise them"
_LISTENER: Final = MappingProxyType(
    {
        12154: "a TNS alias is not resolved; write host and service",
        12505: "the listener knows no such SID; use the service name",
        12514: "the listener knows no such service; compare `service` with `lsnrctl services`, or open the instance",
        12516: f"the listener has no free handler: {_FULL}",
        12518: "the listener could not hand the connection over: the server is out of processes or memory; look there",
        12519: f"the listener has no free handler: {_FULL}",
        12520: "the listener has no handler of this kind; `pooled` needs DRCP to be started",
        12526: "the instance is in restricted mode; its operator has to end that",
        12527: "the instance is in restricted mode, or blocks new connections; its operator has to end that",
        12528: "the instance blocks new connections: it is starting; wait for it",
        12529: "the listener rejects the connection by its rules; its operator has to admit this address",
        12537: "the listener closed the connection; it does not admit this address (TCP.VALIDNODE_CHECKING), or its"
        " port speaks TLS and tls.mode is disable",
        12541: "nothing listens at that host and port; start the listener, or correct the port",
        12545: "the host name is unknown here; a full host name is needed",
        12547: "the listener closed the connection; its port may speak TLS while tls.mode is disable",
    }
)
"""The listener's answers (and what stands for them when there is no listener) in the operator's words: what it
means, and behind a semicolon what to do."""
_SIMILAR: Final = re.compile(r"Similar to ORA-(\d+)")
_NAMES: Final = (
    "the server's certificate is for another name than the host; write the host's full name, or set server_dn"
)
_EXPLAINED: Final = MappingProxyType(
    {
        "ORA-00942": "it may also be that the account has no privilege on it",
        "DPY-6002": "the server's certificate has another distinguished name than server_dn",
        "DPY-6006": _NAMES,
        "DPY-3015": "the account has only an old password verifier (10G); the DBA must set its password anew",
        "DPY-4035": "the server did not prove that it knows the password; somebody may be in between",
        "DPY-3001": "the server insists on something that only Oracle's client libraries know, such as Native Network"
        " Encryption; use TLS",
    }
)


def code_of(number: int) -> Code:
    """The code for an ORA- number; unknown ones are internal."""
    known = _CODES.get(number)
    return known or next((code for first, last, code in _RANGES if first <= number <= last), Code.INTERNAL)


def details_of(error: BaseException) -> Any:
    """What the driver knows of a failure: its number, code, text and offset; None for other exceptions."""
    first = error.args[0] if isinstance(error, oracledb.Error) and error.args else None
    return first if hasattr(first, "full_code") else None


def translate(error: BaseException) -> ToolError:
    """Name whatever the driver, TLS or the network raised."""
    if isinstance(error, ToolError):
        return error
    if (found := _in_causes(error, ssl.SSLError)) is not None:
        return failure(Code.SOURCE_UNAVAILABLE, tls.explain(found))
    details = details_of(error)
    if details is not None:
        return _from_driver(error, details)
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        return failure(Code.CONNECT_TIMEOUT, detail)
    if isinstance(error, OSError):
        return failure(Code.SOURCE_UNAVAILABLE, f"{detail}{_reached(error)}")
    if isinstance(error, ValueError | OverflowError):  # a date before the year 1, text in another encoding
        return failure(Code.UNREPRESENTABLE, f"a value that the driver cannot tell: {detail}", is_sent=True)
    return failure(Code.INTERNAL, detail, is_sent=True)


def _from_driver(error: BaseException, details: Any) -> ToolError:
    inner = error.__cause__
    text = str(details.message).partition("\nHelp:")[0]
    number = int(details.code or 0)
    own = details.full_code.startswith("DPY-")
    code = _DRIVER_CODES.get(int(details.full_code[4:]), Code.INTERNAL) if own else code_of(number)
    if own and number:  # the driver puts its own words before the server's; the server's number says more
        code = code_of(number) if code_of(number) is not Code.INTERNAL else code
    if details.full_code == "DPY-6005" and inner is not None:
        named = translate(inner)
        lost = named.code in (Code.INTERNAL, Code.CONNECTION_LOST)
        told = f"{_LISTENER[12547]} ({named.detail})" if lost else named.detail
        return failure(Code.SOURCE_UNAVAILABLE if lost else named.code, told)
    similar = _SIMILAR.search(text)
    explained = _EXPLAINED.get(details.full_code) or _LISTENER.get(int(similar[1]) if similar else number)
    detail = f"{text}: {explained}" if explained else text
    return failure(code, detail, is_sent=code not in (Code.LOGIN_FAILED, Code.SOURCE_UNAVAILABLE))


def at_position(error: oracledb.DatabaseError, text: str) -> ToolError:
    """Name a failure of preparing, with the line and column that the server points at."""
    named, details = translate(error), details_of(error)
    offset = getattr(details, "offset", 0) or 0
    if named.code is Code.STATEMENT_INVALID and 0 < offset < len(text):
        line = text.count("\n", 0, offset) + 1
        column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        near = text[offset : offset + 30].split("\n")[0]
        named.detail = f"{named.detail}; at line {line}, column {column}, near {near!r}"
    return named


def _reached(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f" ({_LISTENER[12545]})"
    return f" ({_LISTENER[12541]})" if isinstance(error, ConnectionRefusedError) else ""


def is_handshake(error: oracledb.Error) -> bool:
    """Whether a failure to connect may be one to agree on TLS: an alert, or a server that hung up."""
    ssl_error = _in_causes(error, ssl.SSLError)
    is_alert = ssl_error is not None and "PROTOCOL" in (ssl_error.reason or "")
    is_lost = isinstance(error.__cause__, ConnectionError) and not isinstance(error.__cause__, ConnectionRefusedError)
    return is_alert or is_lost


def too_old(offered: str) -> str:
    """What to do about a server whose newest TLS is older than the oldest that we accept."""
    return (
        f"TLS: the server speaks no TLS as new as tls.min_version asks for; it offers {offered}."
        ' Oracle before 23ai has no TLS 1.3: say tls.min_version: "1.2"'
    )


def _in_causes(error: BaseException, kind: type[ssl.SSLError]) -> ssl.SSLError | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__
    return None
