"""Who may log in: everybody at a reserved domain, or those in a file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from simlib.facts import Frozen, check, read_toml
from simlib.receiver import Account

__all__ = ["Anybody", "from_file", "is_reserved"]

RESERVED: Final = re.compile(r"([^\s@]+\.)?(test|example|invalid|localhost|example\.(com|net|org))", re.IGNORECASE)
NAME: Final = re.compile(r"[^\s\0-\x1f@]+")
VALUE: Final = re.compile(r"(, got .*| \(value .*\))$", re.DOTALL)


def is_reserved(domain: str) -> bool:
    """Whether nobody can ever own a domain (RFC 2606, RFC 6761).

    Parameters
    ----------
    domain : str
        A domain name, in any case.

    Returns
    -------
    bool
        True for `test`, `example`, `invalid` and `localhost` and what lies below them, and for the domains set aside as
        examples.

    Examples
    --------
    >>> is_reserved("us.example"), is_reserved("mail.example.com"), is_reserved("example.jp")
    (True, True, False)
    """
    return RESERVED.fullmatch(domain) is not None


class _Reserved(frozenset[str]):
    """The set of all reserved domains."""

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and is_reserved(domain)


class Anybody(Mapping[str, Account]):
    """Every mailbox at a reserved domain: user and refresh token are the address, the password is `password`.

    Parameters
    ----------
    *more : str
        Further users, by name, with the same password.

    Examples
    --------
    >>> Anybody().get("rep01@us.example").refresh_token, Anybody().get("rep01@us.jp")
    ('rep01@us.example', None)
    """

    def __init__(self, *more: str) -> None:
        self._seen = {user: _anybody(user) for user in more}

    def __getitem__(self, user: str) -> Account:
        account = self._seen.get(user)
        if account is None:
            name, _, domain = user.rpartition("@")
            if not NAME.fullmatch(name) or not is_reserved(domain):
                raise KeyError(user)
            account = self._seen[user] = _anybody(user)
        return account

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


def _anybody(user: str) -> Account:
    return Account(user, refresh_token=user, domains=_Reserved(), listed=False)


class _Entry(Frozen):
    """One of ``[[accounts]]``."""

    user: Annotated[str, Field(min_length=1), AfterValidator(str.lower)]
    password: str = Field(default="password", min_length=1, repr=False)
    refresh_token: str = Field(default="", repr=False)
    domains: tuple[str, ...] = ()


class _File(Frozen):
    accounts: tuple[_Entry, ...] = Field(min_length=1)


def from_file(path: Path) -> dict[str, Account]:
    r"""Read ``[[accounts]]`` with `user`, `password`, `refresh_token` and `domains`.

    What is left out: the password is `password`, the refresh token the user, the domain the user's own.

    Parameters
    ----------
    path : Path
        A TOML file.

    Returns
    -------
    dict of str to Account
        By user.

    Raises
    ------
    ValueError
        One line that names file and key, if anything in it can't be; passwords are never shown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "accounts.toml")
    ...     _ = path.write_text('[[accounts]]\nuser = "rep01@us.example"\n', encoding="utf-8")
    ...     from_file(path)["rep01@us.example"].password
    'password'
    """
    try:
        entries = check(_File, read_toml(path), str(path)).accounts
    except ValueError as error:
        raise ValueError(VALUE.sub("", str(error))) from None  # it may be a password
    found: dict[str, Account] = {}
    for entry in entries:
        if entry.user in found:
            raise ValueError(f"{path}: accounts: user given twice: {entry.user!r}")
        domains = entry.domains or (entry.user.rpartition("@")[2],)
        token = entry.refresh_token or entry.user
        lowered = frozenset(map(str.lower, domains))
        found[entry.user] = Account(entry.user, entry.password, token, lowered, listed=bool(entry.domains))
    return found
