"""OpenMeter's API v1: the one of servers of one's own, and of its Cloud."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote

from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Meter, Meters
from meter_sync.core.metering.queries import Query
from meter_sync.core.text import utc
from meter_sync.errors import ConfigurationError
from meter_sync.openmeter_api import answers
from meter_sync.openmeter_api.answers import OpenMeterRefused, Row
from meter_sync.openmeter_api.connection import Connection
from meter_sync.openmeter_api.port import MeterDefinition, OpenMeterCustomer

PATH = "/api/v1"
_PAGE_SIZE = 100
_FILTER = {Grouping.SUBJECT: "subject", Grouping.CUSTOMER: "filterCustomerId"}


class V1:
    """Asks in API v1."""

    version = "v1"
    path = PATH

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def meters(self) -> Meters:
        """Return every meter."""
        rows = _objects(await self._connection.get(f"{PATH}/meters", "meters"), "a list of meters")
        return answers.meters(rows, _meter)

    async def definition(self, slug: str) -> MeterDefinition | None:
        """Return what a meter counts, or None where there is none of that slug."""
        rows = _objects(await self._connection.get(f"{PATH}/meters", "meters"), "a list of meters")
        return next((_definition(row) for row in rows if row.get("slug") == slug), None)

    async def create_meter(self, wanted: MeterDefinition) -> None:
        """Make a meter."""
        asked = {
            "slug": wanted.slug,
            "name": wanted.name,
            "aggregation": wanted.aggregation.value,
            "eventType": wanted.event_type,
            "valueProperty": wanted.value_property,
        }
        await self._connection.post(
            f"{PATH}/meters", "meters", {name: value for name, value in asked.items() if value is not None}
        )

    async def rows(self, query: Query) -> Iterator[Row]:
        """Return the rows that answer a query.

        Raise ConfigurationError where the server is too old for whole seconds.
        """
        path = f"{PATH}/meters/{quote(query.meter, safe='')}/query"
        try:
            read = answers.making_rows(partial(_row, query))
            return _rows(query, await self._connection.post(path, "meter_query", question(query), read))
        except OpenMeterRefused as refusal:
            if "rounded to MINUTE" not in refusal.message:
                raise
            raise ConfigurationError(
                f"this OpenMeter server cannot answer for exact seconds: {refusal.message}; nothing was written",
                "upgrade OpenMeter to a release of March 2025 or later: rounding would bill the wrong usage",
                code="openmeter_too_old",
            ) from refusal

    async def customers(self) -> list[OpenMeterCustomer]:
        """Return all customers. They are ordered by id: by name, the default, a page could skip some."""
        found: dict[str, OpenMeterCustomer] = {}
        page = 1
        while True:
            path = f"{PATH}/customers?page={page}&pageSize={_PAGE_SIZE}&orderBy=id"
            some = _customers(await self._connection.get(path, "customers"))
            known = len(found)
            found |= {one.id: one for one in some}
            if len(some) < _PAGE_SIZE:
                return list(found.values())
            if len(found) == known:
                raise OpenMeterRefused("a page of customers that came before, as if they went on for ever")
            page += 1

    async def still_counts(self, _customer: str) -> bool:
        """Say whether usage of a deleted customer can be asked for: it cannot, as that is a 404 (server source)."""
        return False

    async def stripe_customer(self, customer: str) -> str | None:
        """Return the Stripe customer that the app data of a customer names, or None."""
        try:
            answer = await self._connection.get(f"{PATH}/customers/{quote(customer, safe='')}/apps", "customer_apps")
        except OpenMeterRefused as refusal:
            if refusal.is_gone:
                return None
            raise
        rows = _items(answer, "the app data of a customer")
        of_stripe = [row for row in rows if row.get("type") == "stripe" and row.get("stripeCustomerId") is not None]
        return next((_named(row, "stripeCustomerId") for row in of_stripe), None)


def question(query: Query) -> dict[str, Any]:
    """Return the body of the POST that asks a query."""
    told_apart = [query.grouping.value, *query.dimensions]
    asked: dict[str, Any] = {"from": utc(query.start), "to": utc(query.end), "groupBy": told_apart}
    if query.subjects is not None:
        asked[_FILTER[query.grouping]] = list(query.subjects)
    if query.window:
        asked["windowSize"] = query.window.value.upper()
    if query.filter:
        asked["filterGroupBy"] = {name: list(values) for name, values in query.filter}
    return asked


def _rows(query: Query, answer: object) -> Iterator[Row]:
    is_about_it = isinstance(answer, dict) and answers.is_echoed(query, answer.get("from"), answer.get("to"))
    rows = answer.get("data") if isinstance(answer, dict) and is_about_it else None
    if not isinstance(rows, list):
        raise OpenMeterRefused("an answer that does not fit the question")
    return (row if isinstance(row, Row) else _row(query, row) for row in rows)


def _row(query: Query, row: object) -> Row:
    whose, value = (_whose(query, row), row.get("value")) if isinstance(row, dict) else (None, None)
    if not isinstance(row, dict) or not isinstance(whose, str) or not isinstance(value, Decimal):
        raise OpenMeterRefused(f"a row without a {query.grouping} or a number")
    grouped = row.get("groupBy")
    is_told_apart = query.dimensions and isinstance(grouped, dict)
    return Row(whose, value, row.get("windowStart") if query.window else None, grouped if is_told_apart else None)


def _whose(query: Query, row: Mapping[str, object]) -> object:
    """Return whose value a row has: OpenMeter names a customer in the row, or among what it was grouped by."""
    if query.grouping is Grouping.SUBJECT:
        return row.get("subject")
    grouped = row.get("groupBy")
    return row.get("customerId") or (grouped.get("customer_id") if isinstance(grouped, dict) else None)


def _meter(row: Mapping[str, object]) -> Meter:
    """Return a meter. Raise OpenMeterRefused, with what is not known of it, for one that is not understood."""
    try:
        id, slug = (_named(row, name) for name in ("id", "slug"))
    except OpenMeterRefused as refusal:
        raise OpenMeterRefused(f"OpenMeter's list of meters was not understood: it has {refusal.message}") from None
    aggregation = answers.aggregation_of(row.get("aggregation"), slug)
    return Meter(id, slug, aggregation, answers.instant(row.get("eventFrom")))


def _definition(row: Mapping[str, object]) -> MeterDefinition:
    slug, event_type = (_named(row, name) for name in ("slug", "eventType"))
    value = _named(row, "valueProperty") if row.get("valueProperty") else None
    return MeterDefinition(slug, answers.aggregation_of(row.get("aggregation"), slug), event_type, value)


def _named(row: Mapping[str, object], name: str) -> str:
    """Return a text that a row must have. Raise OpenMeterRefused where it is none, or one that is no Unicode."""
    text = row.get(name)
    # Half a surrogate pair could be neither recorded nor printed.
    if not isinstance(text, str) or not text or any("\ud800" <= character <= "\udfff" for character in text):
        raise OpenMeterRefused(f"a row without its {name}")
    return text


def _customers(answer: object) -> list[OpenMeterCustomer]:
    """Given a page of customers, return them, the deleted ones too. Raise OpenMeterRefused if it is none."""
    return [
        OpenMeterCustomer(
            id=_named(row, "id"),
            key=None if row.get("key") is None else _named(row, "key"),
            is_deleted=bool(row.get("deletedAt")),
        )
        for row in _items(answer, "a page of customers")
    ]


def _items(answer: object, what: str) -> list[dict[str, Any]]:
    return _objects(answer.get("items") if isinstance(answer, dict) else None, what)


def _objects(rows: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OpenMeterRefused(f"{what} was expected")
    return rows
