"""The figures for programs: whole, exact, and those that are signed."""

import json
from decimal import Decimal

from meter_sync.statement.document import COLUMNS, document, rows
from tests.support.statement import a_statement


def test_the_document_has_each_figure_of_the_statement() -> None:
    made = json.loads(json.dumps(document(a_statement())))

    assert made["whole"]["bridge"]["used"] == "282872.375"
    assert made["whole"]["bridge"]["difference"] == "0"
    assert [one["meter"] for one in made["meters"]] == ["api_requests", "storage_gb_hours"]
    assert made["meters"][0]["days"][12] == {"day": "2026-11-13", "used": "8438", "reported": "-280", "billed": "7891"}
    assert made["customers"][0]["items"][0]["told"][3] == {"topic": "usage", "text": "183910.75"}
    assert made["matters"][0]["to_do"].startswith("Bill it by hand")
    assert (made["since"], made["until"], made["livemode"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", True)


def test_the_rows_add_up_to_the_whole() -> None:
    made = list(rows(a_statement()))

    assert [tuple(row) for row in made] == [COLUMNS] * 8
    for name in ("used", "billed", "unbilled", "still_open", "rounding", "difference"):
        whole = document(a_statement())["whole"]["bridge"][name]
        assert sum(Decimal(row[name]) for row in made) == Decimal(whole)
