"""What a channel costs, from a file of the reader's own: sendlab ships no prices.

::

    currency = "EUR"
    days_a_month = 20                # on which so much is sent

    [channels.office365]             # names as in `sendlab size --have`, or a scenario's alternatives
    per_mailbox = 10.30              # a month, for each mailbox
    per_ip = 0                       # a month, for each IP
    per_month = 0                    # a month, however much is sent
    per_thousand = 0                 # for a thousand messages
    once = 0                         # to begin with
"""

from pathlib import Path

from pydantic import Field

from simlib.facts import Frozen, check, read_toml

__all__ = ["Price", "Prices"]


class Price(Frozen):
    """What one channel costs, in the file's currency.

    Parameters
    ----------
    per_mailbox, per_ip, per_month : float
        A month: for each mailbox, for each IP, in any case.
    per_thousand : float
        For a thousand messages.
    once : float
        To begin with.
    """

    per_mailbox: float = Field(default=0.0, ge=0)
    per_ip: float = Field(default=0.0, ge=0)
    per_month: float = Field(default=0.0, ge=0)
    per_thousand: float = Field(default=0.0, ge=0)
    once: float = Field(default=0.0, ge=0)


class Prices(Frozen):
    """A file of prices.

    Parameters
    ----------
    currency : str
        As it is to be written.
    days_a_month : float
        On how many days so much is sent.
    channels : dict of str to Price
        By channel.

    Examples
    --------
    >>> prices = Prices(currency="EUR", days_a_month=20, channels={"sparkpost": Price(per_month=25, per_thousand=0.5)})
    >>> prices.monthly("sparkpost", messages=2000, mailboxes=0, ips=0), prices.monthly("gmail", 2000, 25, 0)
    (45.0, None)
    """

    currency: str = Field(min_length=1)
    days_a_month: float = Field(gt=0, le=31)
    channels: dict[str, Price]

    @classmethod
    def load(cls, path: str | Path) -> "Prices":
        """Read a file; anything in it that can't be is a ValueError in one line that names file, key and value."""
        return check(cls, read_toml(Path(path)), str(path))

    def monthly(self, channel: str, messages: int, mailboxes: int, ips: int) -> float | None:
        """Return what a channel costs a month, if so many messages are sent a day; None if the file doesn't say."""
        price = self.channels.get(channel)
        if price is None:
            return None
        sent = messages * self.days_a_month / 1000 * price.per_thousand
        return price.per_month + mailboxes * price.per_mailbox + ips * price.per_ip + sent
