"""Fake servers that answer as a provider does: the same sentences, at the same stage, under the same limits.

Run ``python -m fake_servers office365`` (or ``sendlab serve office365``), send to it with any SMTP client, and open the
control port in a browser.

What is decided is decided by `simlib.receiver`, as in the simulation. Here is the rest:

``wire``
    What stands on the wire: replies, addresses, parameters, headers, reports. No I/O.
``server``
    One connection, on aiosmtpd, and one provider being served.
``clock``
    The provider's clock: the wall's, hurried or not, or one that is moved by hand.
``accounts``, ``tls``
    Who may log in; certificates.
``ledger``, ``state``
    One line for every outcome; how full every limit is.
``control``
    The control port: page, metrics, tokens, clock, accounts, blocked IPs.
``zone``
    DNS that leads a relay's mail for reserved domains to the fakes.
"""
