"""MySQL's and MariaDB's error numbers in our words, never their text."""

from __future__ import annotations

import ssl
from typing import Final

from pymysql.err import MySQLError

from gateway.database.failures import failure
from gateway.database.mysql_wire import CR_SSL
from gateway.errors import Code, ToolError

_NUMBERS: Final = {
    Code.LOGIN_FAILED: (1045, 1049, 1251, 1275, 1396, 1524, 1698, 1820, 1862, 2054, 2059, 2061, 3118, 3159, 4151),
    Code.ACCESS_DENIED: (1044, 1142, 1143, 1227, 1370, 1410, 3530),
    Code.SOURCE_UNAVAILABLE: (1040, 1041, 1129, 1130, 1203, 1226, 2002, 2003, 2005, CR_SSL),
    Code.CONNECTION_LOST: (
        (1053, 1077, 1078, 1079, 1080, 1152, 1154, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927)
        + (2006, 2013, 2014, 2027, 2055, 4031)
    ),
    Code.READ_ONLY: (1290, 1792, 1836, 3100),
    Code.STATEMENT_TIMEOUT: (1317, 1969, 3024),
    Code.CONFLICT: (1020, 1205, 1213, 1412, 1614, 1637, 3058, 3572),
    Code.CONSTRAINT_VIOLATION: (1022, 1048, 1062, 1169, 1216, 1217, 1364, 1369, 1451, 1452, 1557, 1586, 3819, 4025),
    Code.INVALID_VALUE: (
        (1153, 1242, 1264, 1265, 1292, 1301, 1365, 1366, 1406, 1411, 1416, 1426, 1427, 1441, 1525, 1644, 1690, 1694)
        + (3140, 3141, 3143, 3146, 3156, 4037, 4038)
    ),
    Code.STATEMENT_INVALID: (
        (1046, 1051, 1052, 1054, 1055, 1056, 1060, 1063, 1064, 1065, 1066, 1103, 1109, 1110, 1111, 1113, 1140, 1146)
        + (1149, 1176, 1191, 1210, 1222, 1235, 1241, 1247, 1248, 1267, 1270, 1271, 1295, 1305, 1318, 1327, 1414, 1582)
        + (1583, 1630, 3065, 3593)
    ),
}
_CODES: Final = {number: code for code, numbers in _NUMBERS.items() for number in numbers}
_STOPPED: Final = frozenset(_NUMBERS[Code.STATEMENT_TIMEOUT])


def is_stopped(error: MySQLError) -> bool:
    """Whether the server says that the query was killed or outran its limit."""
    return bool(error.args) and error.args[0] in _STOPPED


def translate(error: BaseException) -> ToolError:
    """Name an exception of aiomysql by its number; of TLS and of the socket by its type."""
    if isinstance(error, ToolError):
        return error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return failure(Code.SOURCE_UNAVAILABLE, f"TLS: {cause}")
        cause = cause.__cause__
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, MySQLError):
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        return failure(_CODES.get(number, Code.INTERNAL), detail, is_sent=number < 2000)
    if isinstance(error, OSError | EOFError):
        return failure(Code.SOURCE_UNAVAILABLE, detail)
    return failure(Code.INTERNAL, detail)
