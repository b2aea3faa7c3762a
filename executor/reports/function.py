"""What a function answered, as executor/tools/invoke.* write it: a JSON value or an error, and how long it took."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from executor.reports.values import ReportInvalid, text

#: The most bytes of a value as JSON; a larger one is an error of the kind "size".
MAX_VALUE_BYTES = 1 << 20
#: What stands beside the value.
ROOM = 64 << 10
MAX_DEPTH = 100
MAX_NAME = 200
MAX_MESSAGE = 2_000
MAX_STACK = 8_000
#: thrown: by the function. handler: it is not there. value: it is not JSON. size: it is too large.
KINDS = ("thrown", "handler", "value", "size")


def read(data: bytes) -> dict[str, Any]:
    """`{value, durationMs}` or `{durationMs, error: {kind, type, message, stack}}`. Raises ReportInvalid."""
    if len(data) > MAX_VALUE_BYTES + ROOM:
        return _refused("size", "ResultTooLarge", f"the value has more than {MAX_VALUE_BYTES:,} bytes as JSON")
    report = _json(data)
    if not isinstance(report, dict) or ("value" in report) == ("error" in report):
        raise ReportInvalid("it holds neither a value nor an error")
    duration_ms = _milliseconds(report.get("durationMs"))
    if "error" in report:
        return {"durationMs": duration_ms, "error": _error(report["error"])}
    if _deeper_than(report["value"], MAX_DEPTH):
        message = f"the value is nested more than {MAX_DEPTH} levels deep"
        return _refused("value", "ResultInvalid", message, duration_ms)
    return {"value": report["value"], "durationMs": duration_ms}


def _refused(kind: str, name: str, message: str, duration_ms: float = 0.0) -> dict[str, Any]:
    return {"durationMs": duration_ms, "error": {"kind": kind, "type": name, "message": message, "stack": ""}}


def _json(data: bytes) -> Any:
    """JSON without what only Python takes for it, and without numbers that Python cannot hold."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ReportInvalid(f"it is not JSON that can be read: {str(error)[:200]}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _deeper_than(value: Any, most: int) -> bool:
    """Without recursion, level by level."""
    level = [value]
    for _ in range(most):
        level = [each for inner in level for each in _inside(inner)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in inner if isinstance(each, dict | list)]


def _error(error: Any) -> dict[str, str]:
    fields = error if isinstance(error, dict) else {}
    kind = fields.get("kind")
    return {
        "kind": kind if kind in KINDS else "thrown",
        "type": text(fields.get("type"), MAX_NAME) or "Error",
        "message": text(fields.get("message"), MAX_MESSAGE),
        "stack": text(fields.get("stack"), MAX_STACK),
    }


def _milliseconds(value: Any) -> float:
    """Two digits; 0 for what is no duration."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(min(float(value), 1e9), 2) if is_number and 0 < value < 1e300 else 0.0
