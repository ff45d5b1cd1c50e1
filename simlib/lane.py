"""From a channel's keys to a `Lane`: its own win over its tool's, the tool's over the provider's shaping."""

from simlib.channel import Channel, Lane
from simlib.provider import Provider
from simlib.reaction import Reaction
from simlib.reaction import named as reaction_named
from simlib.sender import NO_RETRY, Retry
from simlib.tool import Habit, Tool, tools
from simlib.warmup import Warmup, named, warmups

__all__ = ["habit_of", "lane_of"]


def habit_of(channel: Channel, provider: str) -> Habit | None:
    """Return what a channel's tool does at a provider.

    Parameters
    ----------
    channel : Channel
        As the file has it.
    provider : str
        The provider's name.

    Returns
    -------
    Habit or None
        None where no tool is named, or nothing is known of it there.

    Examples
    --------
    >>> habit_of(Channel(name="ours", tenants=("us",), to="office365"), "office365")
    """
    return Tool.load(channel.tool).habit(provider) if channel.tool else None


def lane_of(channel: Channel, provider: Provider, since_midnight: float = 0.0) -> Lane:
    """Fill in what the file leaves open.

    Parameters
    ----------
    channel : Channel
        As the file has it.
    provider : Provider
        One of those that it goes to.
    since_midnight : float
        Seconds from midnight until second 0.

    Returns
    -------
    Lane
        The channel on its way to the provider.

    Raises
    ------
    ValueError
        If they don't go together; the line names the key.

    Examples
    --------
    >>> channel = Channel(name="ours", tenants=("us",), to="office365", retry="postfix")
    >>> lane_of(channel, Provider.load("office365")).retry.delays[:2]
    (300.0, 300.0)
    """
    habit = habit_of(channel, provider.name) or Habit(id="none")
    shaping = provider.shaping
    offers_password = {"LOGIN", "PLAIN"} & set(provider.auth)
    oauth = channel.auth == "oauth" or (channel.auth is None and provider.auth[:1] in (("XOAUTH2",), ("OAUTHBEARER",)))
    if channel.auth == "oauth" and not {"XOAUTH2", "OAUTHBEARER"} & set(provider.auth):
        raise ValueError(
            f"auth: {provider.name} offers no OAuth (it offers: {', '.join(provider.auth) or 'none'}), got 'oauth'"
        )
    if channel.auth == "password" and provider.auth and not offers_password:
        raise ValueError(
            f"auth: {provider.name} takes no passwords (it offers: {', '.join(provider.auth)}), got 'password'"
        )
    if not channel.aligned and provider.role != "delivery":
        raise ValueError(
            f"aligned: is about mailbox providers, who see the sending IP; {provider.name} takes mail from whoever "
            "logs in: leave it out, got false"
        )
    if channel.warmup is not None and provider.role != "delivery":
        raise ValueError(
            f"warmup: is about the IPs that mailbox providers see; {provider.name} takes mail from whoever logs in: "
            f"leave it out, got {channel.warmup!r}"
        )
    if channel.reaction != "none" and provider.role != "delivery":
        raise ValueError(
            f"reaction: is about the IPs that mailbox providers see; {provider.name} takes mail from whoever logs in: "
            f"leave it out, got {channel.reaction!r}"
        )
    return Lane(
        channel,
        provider,
        connections=channel.connections or habit.connections or shaping.connections or 1,
        messages_per_session=channel.messages_per_session or shaping.messages_per_session,
        pace=channel.pace or habit.pace,
        retry=_retry(channel, habit),
        oauth=oauth,
        warmup=_warmup(channel),
        since_midnight=since_midnight,
        reaction=_reaction(channel),
    )


def _reaction(channel: Channel) -> Reaction | None:
    """Look a channel's reaction up."""
    if channel.reaction == "none":
        return None
    try:
        return reaction_named(channel.reaction)
    except ValueError as error:
        raise ValueError(f"reaction: {error}") from None


def _warmup(channel: Channel) -> Warmup | None:
    """Look a channel's schedule up."""
    if channel.warmup is None:
        return None
    try:
        found = named(channel.warmup)
    except ValueError as error:
        raise ValueError(f"warmup: {error}") from None
    if not found.amounts:
        known = ", ".join(one.name for one in warmups() if one.amounts)
        raise ValueError(
            f"warmup: what {found.name} allows each day isn't published: take another (there are: {known})"
        )
    return found


def _retry(channel: Channel, habit: Habit) -> Retry:
    lifetime = channel.queue_lifetime
    if channel.retry is None:
        schedule = habit.schedule or NO_RETRY
    elif isinstance(channel.retry, tuple):
        if any(delay <= 0 for delay in channel.retry):
            raise ValueError(f"retry: delays must be longer than 0, got {min(channel.retry):g} s")
        schedule = Retry(channel.retry)
    elif channel.retry == "none":
        schedule = NO_RETRY
    else:
        named = _schedules().get(channel.retry)
        if named is None:
            raise ValueError(f"retry: unknown schedule {channel.retry!r} (there are: none, {', '.join(_schedules())})")
        schedule = named
    return schedule if lifetime is None else Retry(schedule.delays, lifetime)


def _schedules() -> dict[str, Retry]:
    """Return the retry schedules in the facts, by tool."""
    found = {}
    for name in tools():
        schedule = next((habit.schedule for habit in Tool.load(name).habits if habit.schedule), None)
        if schedule and schedule.delays:
            found[name] = schedule
    return found
