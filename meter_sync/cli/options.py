"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_SELECTORS = (
    click.option("--customer", "customers", multiple=True, metavar="cus_x", help="Only this customer; repeatable."),
    click.option(
        "--subscription", "subscriptions", multiple=True, metavar="sub_x", help="Only this subscription; repeatable."
    ),
    click.option("--meter", "meters", multiple=True, metavar="SLUG", help="Only this OpenMeter meter; repeatable."),
    click.option("--price", "prices", multiple=True, metavar="price_x", help="Only this price; repeatable."),
)


def selectors(command: Command) -> Command:
    """Give a command the options that say which items it is about: AND between kinds, OR within one."""
    for option in reversed(_SELECTORS):
        command = option(command)
    return command
