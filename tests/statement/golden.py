"""The page that the layout is held against; `python -m tests.statement.golden` writes it anew."""

from pathlib import Path

from meter_sync.statement.page import page
from tests.support.statement import a_statement

GOLDEN = Path(__file__).with_name("golden.html")

if __name__ == "__main__":
    GOLDEN.write_text(page(a_statement(), "en"), encoding="utf-8")
