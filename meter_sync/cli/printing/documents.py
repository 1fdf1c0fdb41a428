"""JSON and CSV on stdout, for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meter_sync import __version__


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document, with the version of the program that made it."""
    json.dump({"version": __version__, **document}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a line of column names, and the rows as documents have them: of a field in two, each is a column."""
    writer = csv.DictWriter(sys.stdout, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in rows)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{inner}": part for inner, part in value.items()}
        else:
            flat[name] = ",".join(value) if isinstance(value, list) else value
    return flat
