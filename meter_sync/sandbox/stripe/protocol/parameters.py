"""Parameters of requests to Stripe: form encoding with brackets, and strictness.

Shapes of the errors: API reference, Errors; the wordings are those that its users quote.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from meter_sync.sandbox.stripe.protocol.errors import Refusal

Tree = dict[str, Any]
"""Names to strings, or to further trees."""

Reader = Callable[[Any, str], Any]
"""Turns what was sent under a name into a value, or raises Refusal."""

_COMPARED = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def parse_form(text: str) -> Tree:
    """Return `a[b]=1&c[]=2&c[]=3` as `{"a": {"b": "1"}, "c": {"0": "2", "1": "3"}}`."""
    tree: Tree = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        match = _NAME.fullmatch(name)
        if match is None:
            raise Refusal(f"Invalid parameter name: {name}", param=name)
        _place(tree, [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])], value, name)
    return tree


def parse_json(text: str) -> Tree:
    """Return the body of a request to the second API, which is JSON, as a form with the same content would be."""
    try:
        body = json.loads(text or "{}")
    except ValueError as error:
        raise Refusal("The request body is not JSON.") from error
    if not isinstance(body, dict):
        raise Refusal("The request body must be a JSON object.")
    tree: Tree = _as_form(body)
    return tree


def _as_form(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _as_form(value) for name, value in node.items()}
    if isinstance(node, list):
        return {str(place): _as_form(value) for place, value in enumerate(node)}
    if isinstance(node, bool):
        return str(node).lower()
    return "" if node is None else str(node)


def _place(tree: Tree, path: list[str], value: str, name: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part or str(len(tree)), {})
        if not isinstance(tree, dict):
            raise Refusal(f"Invalid parameter name: {name}", param=name)
    if isinstance(tree.get(path[-1]), dict):
        raise Refusal(f"Invalid parameter name: {name}", param=name)
    tree[path[-1] or str(len(tree))] = value


def read_parameters(
    tree: Tree, fields: Mapping[str, Reader], required: tuple[str, ...] = (), prefix: str = ""
) -> dict[str, Any]:
    """Return the values of known parameters; refuse unknown, missing and malformed ones."""
    unknown = [_nested(prefix, name) for name in tree if name not in fields]
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise Refusal(
            f"Received unknown parameter{plural}: {', '.join(unknown)}", code="parameter_unknown", param=unknown[0]
        )
    for name in required:
        if tree.get(name) in (None, ""):
            param = _nested(prefix, name)
            raise Refusal(f"Missing required param: {param}.", code="parameter_missing", param=param)
    return {name: fields[name](value, _nested(prefix, name)) for name, value in tree.items()}


def _nested(prefix: str, name: str) -> str:
    return f"{prefix}[{name}]" if prefix else name


def text(value: Any, name: str) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise Refusal(f"Invalid string: {name}", param=name)
    return value


def at_most(characters: int) -> Reader:
    """Return a reader of a string of at most so many characters."""

    def read(value: Any, name: str) -> str:
        if len(text(value, name)) > characters:
            raise Refusal(f"Invalid string: {name} must be at most {characters} characters", param=name)
        return str(value)

    return read


def currency(value: Any, name: str) -> str:
    """Read a currency: three letters of ISO 4217, in lowercase (which of them Stripe takes is not modelled)."""
    if re.fullmatch("[a-z]{3}", text(value, name)) is None:
        raise Refusal(f"Invalid currency: {value}.", param=name)
    return str(value)


def whole(minimum: int | None = None, maximum: int | None = None) -> Reader:
    """Return a reader of whole numbers within bounds."""

    def read(value: Any, name: str) -> int:
        if not isinstance(value, str) or re.fullmatch(r"-?\d{1,18}", value) is None:
            raise Refusal(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        number = int(value)
        if minimum is not None and number < minimum:
            bound = f"This value must be greater than or equal to {minimum}."
        elif maximum is not None and number > maximum:
            bound = f"This value must be less than or equal to {maximum}."
        else:
            return number
        raise Refusal(bound, code="parameter_invalid_integer", param=name)

    return read


def flag(value: Any, name: str) -> bool:
    """Read `true` or `false`."""
    if value not in ("true", "false"):
        raise Refusal(f"Invalid boolean: {value}", param=name)
    return bool(value == "true")


def instant_or_now(value: Any, name: str) -> int | None:
    """Read Unix seconds, or `now` as None."""
    if value == "now":
        return None
    if not isinstance(value, str) or re.fullmatch(r"\d{1,11}", value) is None:
        raise Refusal(f"Invalid timestamp: {value}. It must be an integer Unix timestamp or 'now'.", param=name)
    return int(value)


def amount(value: Any, name: str) -> Decimal:
    """Read an amount in cents with up to 12 decimal places (API reference, unit_amount_decimal)."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number < 0 or exponent < -12:
        raise Refusal(f"Invalid decimal: {value}", code="parameter_invalid", param=name)
    return number


def or_empty(reader: Reader) -> Reader:
    """Return a reader that reads an empty value, which unsets what was set, as None."""

    def read(value: Any, name: str) -> Any:
        return None if value == "" else reader(value, name)

    return read


def choice(*options: str) -> Reader:
    """Return a reader of one of these words."""

    def read(value: Any, name: str) -> str:
        if value not in options:
            known = ", ".join(options[:-1]) + f", or {options[-1]}" if options[1:] else options[0]
            raise Refusal(f"Invalid {name}: must be one of {known}", param=name)
        return str(value)

    return read


def text_map(value: Any, name: str) -> dict[str, str]:
    """Read metadata; an empty value unsets its key, and an empty map unsets all."""
    if value == "":
        return {}
    if not isinstance(value, dict):
        raise Refusal(f"Invalid hash: {name}", param=name)
    return {key: text(each, _nested(name, key)) for key, each in value.items()}


def merged(metadata: Mapping[str, str], change: Mapping[str, str]) -> dict[str, str]:
    """Return metadata after an update: keys are added, and removed by an empty value."""
    return {key: value for key, value in {**metadata, **change}.items() if value != ""}


def group(fields: Mapping[str, Reader], required: tuple[str, ...] = ()) -> Reader:
    """Return a reader of nested parameters."""

    def read(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Refusal(f"Invalid hash: {name}", param=name)
        return read_parameters(value, fields, required, prefix=name)

    return read


def list_of(reader: Reader) -> Reader:
    """Return a reader of a list, sent as `name[]` or `name[0]`."""

    def read(value: Any, name: str) -> list[Any]:
        if not isinstance(value, dict) or not all(place.isdigit() for place in value):
            raise Refusal(f"Invalid array: {name}", param=name)
        places = sorted(value, key=int)
        return [reader(value[place], f"{name}[{place}]") for place in places]

    return read


def span(value: Any, name: str) -> dict[str, int]:
    """Read a filter by time: an instant, or bounds with gt, gte, lt and lte."""
    if isinstance(value, str):
        exact = whole(0)(value, name)
        return {"gte": exact, "lte": exact}
    bounds: dict[str, int] = group(dict.fromkeys(_COMPARED, whole(0)))(value, name)
    return bounds


def within(bounds: Mapping[str, Any] | None, instant: Any) -> bool:
    """Whether an instant meets a filter by time."""
    return all(_COMPARED[name](instant, bound) for name, bound in (bounds or {}).items())
