"""Workers for many accounts: the engine of a queue reminds them, the ledger decides.

What is due is read from the ledger, and whether a run may write is decided by its run lock there: a reminder that is
lost is given again, and one that comes twice does nothing. So the queue may be lost as a whole.
"""
