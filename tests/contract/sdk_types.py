"""Holding JSON against the types of Stripe's SDK, for API versions that the document is too old for.

The SDK is generated from Stripe's current OpenAPI document, so the annotations of its objects and
of its parameters are that document in another form.
"""

import functools
import operator
import types
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from inspect import get_annotations
from typing import (
    Any,
    ClassVar,
    ForwardRef,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import stripe
from pydantic import TypeAdapter
from stripe import StripeObject, _request_options
from stripe._request_options import RequestOptions
from stripe._stripe_object import UntypedStripeObject

_PLAIN: dict[Any, type | tuple[type, ...]] = {bool: bool, int: int, float: (int, float), str: str}


def faults(value: Any, annotation: Any, where: str) -> Iterator[str]:
    """Yield what in a JSON value does not fit an annotation of the SDK.

    A property that the SDK's object does not have is a fault, and so is a missing one that is
    not optional: `missing PLACE`.
    """
    annotation = _resolved(annotation)
    origin = get_origin(annotation) or annotation
    if annotation is Any:
        return
    if origin in (Union, types.UnionType):
        yield from _faults_of_union(value, get_args(annotation), where)
    elif origin is Literal:
        if value not in get_args(annotation):
            yield f"{where}: {value!r}"
    elif origin is list:
        yield from _faults_of_list(value, get_args(annotation)[0], where)
    elif isinstance(origin, type) and issubclass(origin, StripeObject):
        yield from _faults_of_object(value, origin, get_args(annotation), where)
    elif not _is_plain(value, annotation):
        yield f"{where}: {value!r} is no {annotation}"


def _is_plain(value: Any, annotation: Any) -> bool:
    if annotation is Decimal:
        return _is_decimal(value)
    if annotation in (None, type(None)):
        return value is None
    if isinstance(value, bool) and annotation is not bool:
        return False
    return annotation in _PLAIN and isinstance(value, _PLAIN[annotation])


def _is_decimal(value: Any) -> bool:
    """Say whether it is what the SDK reads as a Decimal: a string, never a JSON number."""
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _faults_of_union(value: Any, choices: tuple[Any, ...], where: str) -> Iterator[str]:
    found = [list(faults(value, choice, where)) for choice in choices]
    if all(found):
        # The fit that came closest says it best: an object for an object.
        yield from min(found, key=lambda each: sum(one.startswith(f"{where}: ") for one in each))


def _faults_of_list(value: Any, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where}: {value!r} is no list"
        return
    for each in value:
        yield from faults(each, kind, f"{where}[]")


def _faults_of_object(value: Any, shape: type[StripeObject], arguments: tuple[Any, ...], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    if shape is UntypedStripeObject:
        for name, each in value.items():
            yield from faults(each, arguments[0], f"{where}.{name}")
        return
    annotations: dict[str, Any] = {
        name: kind
        for each in reversed(shape.__mro__)
        if issubclass(each, StripeObject)
        for name, kind in get_annotations(each).items()
        if not _is_of_the_class(kind) and not name.startswith("_")
    }
    if shape is stripe.ListObject:
        annotations["object"] = Literal["list"]
    yield from (f"unknown {where}.{name}" for name in value.keys() - annotations.keys())
    for name, kind in annotations.items():
        kind = list[arguments[0]] if arguments and name == "data" else kind  # type: ignore[valid-type]
        if name in value:
            yield from faults(value[name], kind, f"{where}.{name}")
        elif type(None) not in get_args(_resolved(kind)):
            yield f"missing {where}.{name}"


def _is_of_the_class(annotation: Any) -> bool:
    origin: Any = get_origin(annotation)
    return origin is ClassVar


def _resolved(annotation: Any) -> Any:
    """Return the class that a reference names: they are exported by the package `stripe`."""
    name = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    if isinstance(name, TypeVar):
        return StripeObject
    return getattr(stripe, name, stripe.test_helpers.TestClock) if isinstance(name, str) else annotation


def check_parameters(parameters: dict[str, Any], shape: Any) -> None:
    """Raise unless the SDK has these parameters, with values of these types, and none is missing."""
    options = get_annotations(RequestOptions)
    hints = get_type_hints(shape, localns={**vars(_request_options), "StripeContext": Any})
    known = {name: kind for name, kind in hints.items() if name not in options}
    if parameters.keys() - known.keys() or shape.__required_keys__ - parameters.keys():
        raise TypeError(f"{shape.__name__} is not {sorted(parameters)}")
    for name, value in parameters.items():
        _check_parameter(value, known[name])


def _check_parameter(value: Any, kind: Any) -> None:
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    groups = [choice for choice in choices if hasattr(choice, "__required_keys__")]
    if groups and isinstance(value, dict):
        (group,) = groups
        check_parameters(value, group)
        return
    # What came over the wire is no object of the SDK.
    plain: Any = tuple(choice for choice in choices if get_origin(choice) is not UntypedStripeObject)
    TypeAdapter(functools.reduce(operator.or_, plain)).validate_python(value)
