"""The pictures of the documents; `python -m tests.statement.pictures` takes them anew, of what the demo ends with."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

from tests.support.browser import a_browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_WIDTH, _HEIGHT = 1100, 1500
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def take() -> None:
    done = subprocess.run([sys.executable, "-m", "meter_sync", "demo"], capture_output=True, text=True, check=True)
    (page,) = re.findall(r"^It is in (.+): open it in a browser\.$", done.stdout, re.MULTILINE)
    IMAGES.mkdir(exist_ok=True)
    with a_browser() as browser:
        for scheme in _SCHEMES:
            shown = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=scheme)
            shown.goto(f"file://{page}")
            shown.screenshot(path=IMAGES / f"statement-{scheme}.png")


if __name__ == "__main__":
    take()
