"""Load tests: Locust drives a plan over real SMTP, through a relay if asked, and the ledgers are made to agree.

Nothing here knows a scenario or a provider's limits: a generator reads a plan, and asks `simlib.sender` when to send.
"""
