"""The published OpenAPI documents, and holding requests and answers against them.

Where a document is known to be wrong, or older than what it is held against, it is amended here,
each time with the reason, instead of leaving a check out.
"""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core import Config, OpenAPI
from openapi_core.casting.schemas import oas30_write_schema_casters_factory
from openapi_core.deserializing.styles import StyleDeserializersFactory, style_deserializers
from werkzeug.datastructures import Headers

from .messages import FORM, Request, Response

Json = dict[str, Any]


_JSON_TYPES = (
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/problem+json",
)
"""JSON under names that openapi-core does not know as such."""


class Undocumented(Exception):
    """A parameter that the document does not have for the operation."""


class Document:
    """One OpenAPI document. What it does not mention is refused, in both directions."""

    def __init__(self, content: Json) -> None:
        self.content = content
        server = urlsplit(content["servers"][0]["url"])
        self._host = f"{server.scheme}://{server.netloc}"
        self._base = server.path.rstrip("/")

    @cached_property
    def _api(self) -> OpenAPI:
        styles = {**style_deserializers, "deepObject": _deep_object}
        return OpenAPI.from_dict(
            self.content,
            config=Config(
                # The documents are given; checking them as such would take most of the time.
                spec_validator_cls=None,
                style_deserializers_factory=StyleDeserializersFactory(
                    oas30_write_schema_casters_factory, style_deserializers=styles
                ),
                extra_media_type_deserializers=dict.fromkeys(_JSON_TYPES, _read_json),
                additional_properties_default_policy="forbid",
            ),
        )

    def check_request(self, request: Request) -> None:
        """Raise unless the document has this request: path, parameters, body and their types."""
        request = replace(request, host_url=self._host)
        self._api.validate_request(request)
        self._check_names(request)

    def check_answer(self, request: Request, response: Response) -> None:
        """Raise unless the document has this answer to this request."""
        self._api.validate_response(replace(request, host_url=self._host), response)

    def check_object(self, schema: str, value: Any) -> None:
        """Raise unless the value has the shape of a schema of the document."""
        path = f"/schemas/{schema}"
        alone = Document({**self.content, "paths": {path: {"get": answers_with(schema)}}})
        headers = Headers({"content-type": "application/json"})
        response = Response(200, headers, json.dumps(value).encode())
        alone.check_answer(Request("GET", path), response)

    def operation(self, request: Request) -> Json:
        """Return the operation of a request; a fixed path goes before one with variables."""
        for template in sorted(self.content["paths"], key=lambda path: path.count("{")):
            pattern = re.sub(r"\\{.*?\\}", "[^/]+", re.escape(template))
            if re.fullmatch(self._base + pattern, request.path):
                operation: Json = self.content["paths"][template][request.method]
                return operation
        raise Undocumented(request.path)

    def _check_names(self, request: Request) -> None:
        """Refuse parameters that the document lacks: openapi-core only looks at those it has."""
        operation = self.operation(request)
        listed = [self._resolved(each) for each in operation.get("parameters", [])]
        styles = {each["name"]: each.get("style") for each in listed if each["in"] == "query"}
        sent = parse_qsl(request.query)
        if request.content_type.startswith(FORM) and request.text:
            form = operation["requestBody"]["content"][FORM]
            encoding = form.get("encoding", {})
            for name in form["schema"]["properties"]:
                styles[name] = encoding.get(name, {}).get("style")
            sent += parse_qsl(request.text)
        for name, _ in sent:
            root, bracket, _ = name.partition("[")
            if root not in styles or (bracket and styles[root] != "deepObject"):
                raise Undocumented(f"{request.method} {request.path}: {name}")

    def _resolved(self, node: Json) -> Json:
        if "$ref" not in node:
            return node
        found: Any = self.content
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self._resolved(found)


def answers_with(schema: str) -> Json:
    """Return an operation that answers with a schema of the document, or with Stripe's error."""

    def of(name: str) -> Json:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        return {"description": name, "content": content}

    return {"responses": {"200": of(schema), "default": of("error")}}


def bracketed(pairs: list[tuple[str, str]]) -> Json:
    """Decode Stripe's form encoding: `a[b]=1&c[0]=2` is `{"a": {"b": "1"}, "c": ["2"]}`."""
    tree: Json = {}
    for name, value in pairs:
        root, *steps = re.findall(r"[^\[\]]+", name)
        node = tree
        for key, following in zip([root, *steps], [*steps, None], strict=True):
            if following is None:
                node[key] = value
            else:
                node = node.setdefault(key, {})
    return {name: _with_lists(value) for name, value in tree.items()}


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if all(key.isdigit() for key in node):
        return [_with_lists(node[key]) for key in sorted(node, key=int)]
    return {key: _with_lists(value) for key, value in node.items()}


def _deep_object(explode: bool, name: str, schema_type: str, location: Mapping[str, Any]) -> Any:
    """Read a `deepObject` parameter as Stripe means it.

    OpenAPI defines the style for flat objects only; Stripe's document also declares it for arrays
    (`expand[0]`), for objects within objects and for what may as well be a plain value: Unix
    seconds, or a word (`timestamp`), among which the caster of openapi-core does not choose.
    """
    value = bracketed([(key, location[key]) for key in location])[name]
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _read_json(text: bytes, **parameters: str) -> Any:
    return json.loads(text)


ADDED_TO_STRIPE: dict[str, Json] = {
    # Billing meters came in 2024; the SDK has both (stripe.Price.Recurring).
    "recurring": {
        "meter": {"type": "string", "nullable": True},
        "trial_period_days": {"type": "integer", "nullable": True},
    },
    # Several discounts at once came in 2024 (stripe.Subscription, stripe.SubscriptionItem).
    "subscription": {"discounts": {"type": "array", "items": {"type": "string"}}},
    "subscription_item": {"discounts": {"type": "array", "items": {"type": "string"}}},
    # So came those of schedules (stripe.SubscriptionSchedule.Phase).
    "subscription_schedule_phase_configuration": {"discounts": {"type": "array", "items": {"type": "object"}}},
    "subscription_schedule_configuration_item": {"discounts": {"type": "array", "items": {"type": "object"}}},
    # Who issues its invoices came at the end of 2023 (stripe.SubscriptionSchedule.DefaultSettings).
    "invoice_setting_subscription_schedule_setting": {
        "issuer": {"type": "object", "properties": {"type": {"type": "string"}}}
    },
    # Who is liable for automatic tax came at the end of 2023 (stripe.Subscription.AutomaticTax).
    "subscription_automatic_tax": {"liability": {"type": "object", "nullable": True}},
}
"""Properties that Stripe's objects got between the document (2023-08-16) and 2025-02-24.acacia."""

TOTAL_COUNT = {"total_count": {"type": "integer"}}
"""Sent with lists inside of objects, as the samples of the API reference show; in no document."""


def stripe_document(folder: Path) -> Document:
    """Return Stripe's document of 2023-08-16, amended for answers of 2025-02-24.acacia."""
    content: Json = json.loads((folder / "stripe-2023-08-16.openapi.json").read_text("utf-8"))
    schemas = content["components"]["schemas"]
    for schema, properties in ADDED_TO_STRIPE.items():
        schemas[schema]["properties"].update(properties)
    for inner in (schemas["subscription"]["properties"]["items"], schemas["invoice"]["properties"]["lines"]):
        inner["properties"].update(TOTAL_COUNT)
    _admit_null(content)
    # The folder's document is cut to a few paths; these three answer with schemas that it has.
    content["paths"]["/v1/account"] = {"get": answers_with("account")}
    content["paths"]["/v1/products/{id}"] = {"get": answers_with("product")}
    content["paths"]["/v1/invoices/upcoming"] = {"get": answers_with("invoice")}
    return Document(content)


def _admit_null(node: Any) -> None:
    """Make `nullable` mean in a Stripe document what Stripe means by it.

    It is written beside `anyOf` and beside `enum`, where by the letter of OpenAPI 3.0.3 it admits
    no null: the alternatives and the list of values do not have it.
    """
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _admit_null(child)
    if isinstance(node, dict) and node.get("nullable") is True:
        if "anyOf" in node:
            node["anyOf"].append({"type": "string", "nullable": True, "enum": [None]})
        if "enum" in node:
            node["enum"].append(None)


def stripe_samples(folder: Path) -> Json:
    """Return Stripe's own sample objects, by kind."""
    samples: Json = json.loads((folder / "stripe-2023-08-16.fixtures.json").read_text("utf-8"))
    resources: Json = samples["resources"]
    return resources


def openmeter_document(folder: Path) -> Document:
    """Return OpenMeter's document as it is published."""
    content = _read_yaml(folder / "openmeter.openapi.yaml")
    _leave_properties_to_the_named_schema(content["components"])
    return Document(content)


def openmeter_v3_document(folder: Path) -> Document:
    """Return OpenMeter's document of the third version, at the one server whose address has no variables."""
    content = _read_yaml(folder / "openmeter.v3.openapi.yaml")
    content["servers"] = [server for server in content["servers"] if not server.get("variables")]
    _join_parts(content["components"]["schemas"])
    _leave_properties_to_the_named_schema(content["components"])
    return Document(content)


def at_konnect(document: Document) -> Document:
    """Return OpenMeter's document of the third version at Konnect's address, which has no `/api` in it."""
    return Document({**document.content, "servers": [{"url": "https://us.api.konghq.com/v3"}]})


def _read_yaml(path: Path) -> Json:
    yaml = import_module("yaml")  # it has no types, unless somebody installed some
    # Both loaders are safe ones; the faster one is not everywhere.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content: Json = yaml.load(path.read_text("utf-8"), Loader=loader)
    return content


def _join_parts(schemas: Json) -> None:
    """Make one schema of what is described in several parts (`allOf`), as the errors of v3 are.

    Otherwise refusing unknown properties would make each part refuse those of the others.
    """
    for name, schema in schemas.items():
        parts = [
            schemas[each["$ref"].rsplit("/", 1)[1]] if "$ref" in each else each for each in schema.get("allOf", [])
        ]
        if len(parts) > 1:
            properties: Json = {}
            for part in parts:
                for key, value in part["properties"].items():
                    properties[key] = {**properties.get(key, {}), **value}
            required = [key for part in parts for key in part.get("required", [])]
            schemas[name] = {"type": "object", "properties": properties, "required": required}


def _leave_properties_to_the_named_schema(node: Any) -> None:
    """Let a schema that only wraps others (`allOf`, `oneOf`) leave to them which properties there are.

    Otherwise refusing unknown properties would make the wrapper, which names none, refuse all.
    """
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _leave_properties_to_the_named_schema(child)
    if isinstance(node, dict) and {"allOf", "oneOf"} & node.keys() and "properties" not in node:
        node.setdefault("additionalProperties", True)


def with_terse_server_errors(document: Document) -> Document:
    """Return OpenMeter's document with its error about errors put right.

    It requires `detail` of every problem, but the server leaves it out of a 5xx, so that nothing
    internal shows (the server's source).
    """
    content = copy.deepcopy(document.content)
    schemas = content["components"]["schemas"]
    terse = copy.deepcopy(schemas["UnexpectedProblemResponse"])
    terse["required"].remove("detail")
    schemas["TerseProblemResponse"] = terse
    for name in ("InternalServerErrorProblemResponse", "ServiceUnavailableProblemResponse"):
        schemas[name]["allOf"] = [{"$ref": "#/components/schemas/TerseProblemResponse"}]
    return Document(content)
