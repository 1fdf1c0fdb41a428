"""OpenMeter's API v3: the only one of Konnect Metering & Billing, and beside v1 on servers of one's own."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.meter import Aggregation, Meter, Meters
from meter_sync.core.metering.queries import Query
from meter_sync.core.text import utc
from meter_sync.openmeter_api import answers
from meter_sync.openmeter_api.answers import OpenMeterRefused, Row
from meter_sync.openmeter_api.connection import Connection
from meter_sync.openmeter_api.port import MeterDefinition, OpenMeterCustomer

PATH = "/openmeter"
_PAGE_SIZE = 100
"""The most that it gives at once; without a size it gives 20."""
_GRANULARITY = {WindowSize.HOUR: "PT1H", WindowSize.DAY: "P1D"}
_NUMBER = re.compile(r"-?(\d+(\.\d+)?([eE][+-]?\d+)?|Infinity)|NaN")
"""Values are made from doubles (server source)."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=5_000)]
Ulid = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
"""Goes into paths."""


class _Shape(BaseModel):
    """What is of another type than it should be is refused, also where it could be converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _PageMeta(_Shape):
    number: Annotated[Decimal, Field(gt=0)]
    size: Annotated[Decimal, Field(gt=0)]
    total: Annotated[Decimal, Field(ge=0)]


class _Meta(_Shape):
    page: _PageMeta


class _Page(_Shape):
    data: list[dict[str, object]]
    meta: _Meta


class _Meter(_Shape):
    id: Ulid
    key: Text
    aggregation: object = None
    events_from: Text | None = None


class _MeterInFull(_Meter):
    event_type: Text
    value_property: str | None = None


class _Customer(_Shape):
    id: Ulid
    key: str
    """Empty where it has none (server source)."""
    deleted_at: Text | None = None


class _OfStripe(_Shape):
    customer_id: Text | None = None


class _AppData(_Shape):
    stripe: _OfStripe | None = None


class _Billing(_Shape):
    app_data: _AppData | None = None


class _Result(_Shape):
    data: list[Any]
    start: Annotated[str | None, Field(alias="from")] = None
    end: Annotated[str | None, Field(alias="to")] = None


_Shaped = TypeVar("_Shaped", bound=_Shape)


class V3:
    """Asks in API v3."""

    version = "v3"
    path = PATH

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: Mapping[str, str] = {}
        """The id of each meter by its key, and by itself: a query takes no key."""

    async def meters(self) -> Meters:
        """Return every meter, over all pages."""
        found = answers.meters([row async for row in self._listed("meters", "key")], _meter)
        self._ids = {name: meter.id for name, meter in found.known.items()}
        return found

    async def definition(self, slug: str) -> MeterDefinition | None:
        """Return what a meter counts, or None where there is none of that key."""
        # All pages are read, whatever is found: a filter by the key is younger than some servers.
        rows = [row async for row in self._listed("meters", "key") if row.get("key") == slug]
        return _definition(rows[0]) if rows else None

    async def create_meter(self, wanted: MeterDefinition) -> None:
        """Make a meter."""
        asked = {
            "key": wanted.slug,
            "name": wanted.name or wanted.slug,
            "aggregation": wanted.aggregation.value.lower(),
            "event_type": wanted.event_type,
            "value_property": wanted.value_property,
        }
        # A null is refused where the document names none.
        await self._connection.post(
            f"{PATH}/meters", "meters", {name: value for name, value in asked.items() if value is not None}
        )

    async def rows(self, query: Query) -> Iterator[Row]:
        """Return the rows that answer a query. A meter is looked up by its key, where it is not known yet."""
        id = self._ids.get(query.meter)
        if id is None:
            await self.meters()
            id = self._ids.get(query.meter)
        if id is None:
            raise OpenMeterRefused(f"there is no meter {query.meter!r}")
        read = answers.making_rows(partial(_row, query))
        path = f"{PATH}/meters/{id}/query"
        return _rows(query, await self._connection.post(path, "meter_query", question(query), read))

    async def customers(self) -> list[OpenMeterCustomer]:
        """Return all customers, over all pages. Ordered by name, the default, a page could skip some."""
        customers = [_read(_Customer, row, "a customer") async for row in self._listed("customers", "id")]
        return [OpenMeterCustomer(one.id, one.key or None, one.deleted_at is not None) for one in customers]

    async def still_counts(self, customer: str) -> bool:
        """Say whether a customer that is in no list any more was deleted: its usage is counted (server source)."""
        try:
            answer = await self._connection.get(f"{PATH}/customers/{quote(customer, safe='')}", "customer")
        except OpenMeterRefused as refusal:
            if refusal.is_gone:
                return False
            raise
        return _read(_Customer, answer, "a customer").deleted_at is not None

    async def stripe_customer(self, customer: str) -> str | None:
        """Return the Stripe customer that the app data of a customer names, or None."""
        try:
            answer = await self._connection.get(f"{PATH}/customers/{customer}/billing", "customer_billing")
        except OpenMeterRefused as refusal:
            if refusal.is_gone:
                return None
            raise
        app_data = _read(_Billing, answer, "the billing data of a customer").app_data
        return app_data.stripe.customer_id if app_data and app_data.stripe else None

    async def _listed(self, what: str, order: str) -> AsyncIterator[dict[str, object]]:
        """Give each row of a list once, over all pages."""
        given = set[object]()
        number = 1
        while True:
            path = f"{PATH}/{what}?page[number]={number}&page[size]={_PAGE_SIZE}&sort={order}"
            page = _read(_Page, await self._connection.get(path, what), f"a page of {what}")
            news = [row for row in page.data if row.get("id") not in given]
            for row in news:
                given.add(row.get("id"))
                yield row
            meta = page.meta.page
            if meta.number * meta.size >= meta.total:
                return
            if not news:
                raise OpenMeterRefused(f"a page of {what} that has nothing new, as if they went on for ever")
            number += 1


def question(query: Query) -> dict[str, Any]:
    """Return the body of the POST that asks a query. Without a time zone, hours and days are of UTC.

    Raise OpenMeterRefused for a filter by what tells the rows apart, in whose place it would stand: less would be
    filtered than was wished for.
    """
    whose = query.grouping.value
    if whose in dict(query.filter):
        raise OpenMeterRefused(f"its filter names {whose!r}, which is no dimension of the meter")
    asked: dict[str, Any] = {
        "from": utc(query.start),
        "to": utc(query.end),
        "group_by_dimensions": [whose, *query.dimensions],
    }
    if query.window:
        asked["granularity"] = _GRANULARITY[query.window]
    filters = {name: {"in": list(values)} for name, values in query.filter}
    if query.subjects is not None:
        filters[whose] = {"in": list(query.subjects)}
    if filters:
        asked["filters"] = {"dimensions": filters}
    return asked


def _rows(query: Query, answer: object) -> Iterator[Row]:
    result = _read(_Result, answer, "an answer to a query")
    if not answers.is_echoed(query, result.start, result.end):
        raise OpenMeterRefused("an answer that does not fit the question")
    return (row if isinstance(row, Row) else _row(query, row) for row in result.data)


def _row(query: Query, row: object) -> Row:
    value, dimensions = (row.get("value"), row.get("dimensions")) if isinstance(row, dict) else (None, None)
    if not isinstance(row, dict) or not isinstance(dimensions, dict):
        raise OpenMeterRefused("a row without its dimensions")
    whose = dimensions.get(query.grouping.value)
    if not isinstance(whose, str) or not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise OpenMeterRefused(f"a row without a {query.grouping} or a number")
    try:
        start = row.get("from") if query.window else None
        return Row(whose, answers.number(value), start, dimensions if query.dimensions else None)
    except ArithmeticError:  # an exponent beyond any that can be computed with
        raise OpenMeterRefused("a number that no meter can have counted") from None


def _meter(row: Mapping[str, object]) -> Meter:
    meter = _read(_Meter, row, "a meter")
    return Meter(meter.id, meter.key, _aggregation(meter), answers.instant(meter.events_from))


def _definition(row: Mapping[str, object]) -> MeterDefinition:
    meter = _read(_MeterInFull, row, "a meter")
    return MeterDefinition(meter.key, _aggregation(meter), meter.event_type, meter.value_property or None)


def _aggregation(meter: _Meter) -> Aggregation:
    stated = meter.aggregation
    return answers.aggregation_of(stated.upper() if isinstance(stated, str) else stated, meter.key)


def _read(shape: type[_Shaped], answer: object, what: str) -> _Shaped:
    """Return an answer in its shape. Raise OpenMeterRefused, without the answer's content, if it does not have it."""
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part)[:100] for part in fault["loc"])
        raise OpenMeterRefused(f"{what} was expected, and was not understood: {where} {fault['msg']}") from None
