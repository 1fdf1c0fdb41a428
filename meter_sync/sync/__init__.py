"""One run: list, query, plan, check, report, record, each a module; `run` reads as the sentence.

What was begun by an earlier run is resumed first, and what only Stripe can say is looked at before the check. `books`
carries out a run with its lock and its ledger; what it is asked for and what came of it are in `request`, which imports
no SDK.
"""
