"""The six steps in their order: list, query, plan, check, report, record."""

from meter_sync.sync.execute import Execution, Request, execute, failed_before_it_began
from meter_sync.sync.order import RunReport

__all__ = ["Execution", "Request", "RunReport", "execute", "failed_before_it_began"]
