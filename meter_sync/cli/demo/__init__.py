"""`meter-sync demo`: the whole job against an embedded Stripe and OpenMeter."""

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import OPENMETER_VERSION
from meter_sync.core.outcomes import ExitCode

if TYPE_CHECKING:
    from meter_sync.sandbox.openmeter.api import OpenMeterVersion


@click.command()
@OPENMETER_VERSION
@click.pass_obj
def demo(options: Globals, openmeter_version: "OpenMeterVersion") -> None:
    """Show the whole job against an embedded Stripe and OpenMeter.

    Needs no key, account, server or network. Ends with what each customer's invoice would say next to what they
    used, and fails if the two differ.
    """
    from meter_sync.cli.demo.show import show

    # What a run would warn of is part of the show: the clock jumps over days.
    (replace(options, log_level="error") if options.log_level == "warning" else options).start_logging()
    with tempfile.TemporaryDirectory(prefix="meter-sync-demo-") as folder:
        is_right = asyncio.run(show(options, Path(folder), openmeter_version))
    sys.exit(ExitCode.DONE if is_right else ExitCode.FAILED)
