"""MySQL's and MariaDB's error numbers in our words, never their text.

Numbers first (the servers' references of error messages), since SQLSTATE is
coarse there; then the SQLSTATE class, for numbers of versions to come and those
that SIGNAL makes up.
"""

from __future__ import annotations

import ssl
from types import MappingProxyType
from typing import Final

from pymysql.err import InterfaceError, InternalError, MySQLError

from gateway.database import tls
from gateway.database.failures import failure
from gateway.database.mysql_wire import CR_SSL
from gateway.errors import Code, ToolError

_NUMBERS: Final = {
    Code.LOGIN_FAILED: "1045 1130 1133 1251 1275 1396 1524 1698 1820 1862 2054 2059 2061 3118 3159 3955 4151",
    Code.ACCESS_DENIED: "1044 1142 1143 1211 1227 1345 1356 1370 1410 1419 3530",
    Code.SOURCE_UNAVAILABLE: "1021 1037 1038 1040 1041 1047 1114 1129 1135 1203 1226 1461 1696 2002 2003 2005 2026",
    Code.CONNECTION_LOST: (
        "1053 1077 1078 1079 1080 1152 1154 1156 1157 1158 1159 1160 1161 1184 1927 2006 2013 2014 2027 2055 4031"
    ),
    Code.READ_ONLY: "1036 1209 1290 1792 1836 3100",
    Code.STATEMENT_TIMEOUT: "1317 1969 3024",
    Code.CONFLICT: "1015 1020 1099 1205 1206 1213 1243 1412 1613 1614 1615 1637 3058 3101 3572",
    Code.CONSTRAINT_VIOLATION: "1022 1048 1062 1169 1215 1216 1217 1364 1369 1451 1452 1557 1586 1748 1859 3819 4025",
    Code.INVALID_VALUE: (
        "1104 1153 1242 1264 1265 1292 1301 1325 1329 1365 1366 1367 1406 1411 1416 1426 1427 1441 1525 1526 "
        "1644 1690 1694 1772 3140 3141 3143 3146 3156 3617 3903 4037 4038"
    ),
    Code.STATEMENT_INVALID: (
        "1046 1049 1050 1051 1052 1054 1055 1056 1060 1061 1063 1064 1065 1066 1091 1103 1109 1110 1111 1113 "
        "1136 1140 1146 1149 1176 1191 1193 1210 1222 1231 1232 1235 1241 1247 1248 1267 1270 1271 1295 1305 "
        "1318 1327 1347 1414 1422 1582 1583 1630 3065 3593 4078 4079"
    ),
}
_CODES: Final = {int(number): code for code, numbers in _NUMBERS.items() for number in numbers.split()}
_CLASSES: Final = MappingProxyType(
    {
        "07": Code.STATEMENT_INVALID,
        "08": Code.CONNECTION_LOST,
        "0A": Code.STATEMENT_INVALID,
        "21": Code.INVALID_VALUE,
        "22": Code.INVALID_VALUE,
        "23": Code.CONSTRAINT_VIOLATION,
        "24": Code.STATEMENT_INVALID,
        "25": Code.READ_ONLY,
        "28": Code.LOGIN_FAILED,
        "2F": Code.STATEMENT_INVALID,
        "3D": Code.STATEMENT_INVALID,
        "40": Code.CONFLICT,
        "42": Code.STATEMENT_INVALID,
        "44": Code.CONSTRAINT_VIOLATION,
        "45": Code.INVALID_VALUE,  # SIGNAL
        "70": Code.STATEMENT_TIMEOUT,
        "XA": Code.CONFLICT,
    }
)
"""SQLSTATE classes, for numbers that are not listed."""
_AT_LOGIN: Final = frozenset({Code.ACCESS_DENIED, Code.STATEMENT_INVALID})
_UNSENT: Final = frozenset({Code.LOGIN_FAILED, Code.SOURCE_UNAVAILABLE})


def code_of(number: int, state: str = "") -> Code:
    """The code for an error number, else for its SQLSTATE; unknown ones are internal."""
    return _CODES.get(number) or _CLASSES.get(state[:2], Code.INTERNAL)


def is_stopped(error: MySQLError) -> bool:
    """Whether the server says that the query was killed or outran its limit."""
    return _code(error) is Code.STATEMENT_TIMEOUT


def is_lost(error: MySQLError) -> bool:
    """Whether the connection broke, so that nobody knows what the server did."""
    return _code(error) is Code.CONNECTION_LOST


def _code(error: MySQLError) -> Code:
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number:
        return code_of(number, getattr(error, "sqlstate", ""))
    # The driver's own: a closed connection, packets out of order, or a login method that went wrong.
    return Code.CONNECTION_LOST if isinstance(error, InterfaceError | InternalError) else Code.LOGIN_FAILED


def login(error: MySQLError, *, has_certificate: bool) -> ToolError:
    """Name what went wrong while a connection was opened: a database out of reach is a refused login."""
    named = translate(error)
    if named.code in _AT_LOGIN:
        return failure(Code.LOGIN_FAILED, named.detail)
    if named.code is Code.CONNECTION_LOST:
        # With TLS 1.3 a server refuses a client's certificate after the handshake, and its reason may be lost.
        hint = "; perhaps the server does not trust tls.certificate" if has_certificate else ""
        return failure(Code.SOURCE_UNAVAILABLE, f"{named.detail} (during login{hint})")
    return named


def translate(error: BaseException) -> ToolError:
    """Name an exception of aiomysql by its number; of TLS and of the socket by its type."""
    if isinstance(error, ToolError):
        return error
    detail = f"{type(error).__name__}: {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return failure(Code.SOURCE_UNAVAILABLE, tls.explain(cause))
        if isinstance(cause, OSError) and not isinstance(error, OSError):
            detail = f"{detail}: {cause}"
        cause = cause.__cause__
    if isinstance(error, MySQLError):
        if error.args and error.args[0] == CR_SSL:
            return failure(Code.SOURCE_UNAVAILABLE, tls.NOT_OFFERED)
        code = _code(error)
        return failure(code, detail, is_sent=code not in _UNSENT)
    if isinstance(error, OSError | EOFError):
        return failure(Code.SOURCE_UNAVAILABLE, detail)
    return failure(Code.INTERNAL, detail, is_sent=True)
