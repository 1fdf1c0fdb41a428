"""The six steps in their order: list, query, plan, check, report, record.

`execute` carries out a run; what it is asked for and what came of it are in `order`, which imports no SDK.
"""
