"""Closed forms the simulation is checked against.

Messages arrive as a Poisson process and a refused message does not come back: retries are what the simulation adds.
Wherever the theory says "server", a connection or one place of a limit stands for it here. Every result is exact up to
floating-point rounding, and holds in the steady state only.

Loads come in two kinds. An `offered_load` is in erlang: arrivals in one mean service time. `offered` is what a limit
is measured against: the messages offered while it lets one `limit`, or one token, through.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "connection_limit_loss",
    "erlang_b",
    "erlang_c",
    "fixed_window_loss",
    "md1_mean_wait",
    "mdc_mean_wait",
    "mg1_beside_batches",
    "mg1_mean_wait",
    "mmc_mean_wait",
    "mmc_wait_exceeds",
    "mmck_blocked",
    "mmck_mean_wait",
    "shaper_mean_delay",
    "sliding_accepted_loss",
    "sliding_attempts_loss",
    "token_bucket_loss",
]

# Terms of a slowly converging series that are added at once.
BLOCK = 4096


def erlang_b(servers: int, offered_load: float) -> float:
    """Probability that an arrival to an M/G/c/c loss system finds all servers busy (Erlang's loss formula).

    Parameters
    ----------
    servers : int
        Places that can be taken at once; the law of the time a place is taken does not matter.
    offered_load : float
        Arrivals in one mean service time, in erlang.

    Returns
    -------
    float
        Share of the arrivals that are lost, from 0 to 1.

    Raises
    ------
    ValueError
        If `servers` is not an integer of at least 1, or `offered_load` is not positive and finite.

    Notes
    -----
    The recursion ``B(c) = a B(c - 1) / (c + a B(c - 1))`` from ``B(0) = 1`` adds positive numbers only, so it neither
    overflows nor cancels, however many servers there are.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.6; for any service
    time, §5.2.

    Examples
    --------
    >>> round(erlang_b(servers=2, offered_load=1), 6)
    0.2
    """
    _check_counts(servers=servers)
    _check_positive(offered_load=offered_load)
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = offered_load * blocked / (busy + offered_load * blocked)
    return blocked


def erlang_c(servers: int, offered_load: float) -> float:
    """Probability that an arrival to an M/M/c queue has to wait (Erlang's delay formula).

    Parameters
    ----------
    servers : int
        Arrivals that can be served at once.
    offered_load : float
        Arrivals in one mean service time, in erlang.

    Returns
    -------
    float
        Share of the arrivals that wait, from 0 to 1.

    Raises
    ------
    ValueError
        If `servers` is not an integer of at least 1, `offered_load` is not positive, or it is not below `servers`: the
        queue then has no steady state.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.3.

    Examples
    --------
    >>> round(erlang_c(servers=2, offered_load=1), 6)
    0.333333
    """
    blocked = erlang_b(servers, offered_load)
    _check_stable(offered_load, servers, f"servers={servers}")
    return servers * blocked / (servers - offered_load * (1 - blocked))


def mmc_mean_wait(arrival_rate: float, service_rate: float, connections: int) -> float:
    """Mean time a message waits for a connection in an M/M/c queue (W_q).

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_rate : float
        Messages one connection completes, in messages per second.
    connections : int
        Connections open at once to the provider.

    Returns
    -------
    float
        Mean wait of all messages, those that do not wait included, in seconds.

    Raises
    ------
    ValueError
        If a rate is not positive, `connections` is not an integer of at least 1, or the offered load is not below
        `connections`: the queue then has no steady state.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.3.

    Examples
    --------
    >>> round(mmc_mean_wait(arrival_rate=8, service_rate=5, connections=2), 6)
    0.355556
    """
    return mmc_wait_exceeds(0, arrival_rate, service_rate, connections) / (connections * service_rate - arrival_rate)


def mmc_wait_exceeds(t: float, arrival_rate: float, service_rate: float, connections: int) -> float:
    """Probability that a message waits longer than `t` in an M/M/c queue served in order of arrival.

    Parameters
    ----------
    t : float
        Time before a connection takes the message, in seconds.
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_rate : float
        Messages one connection completes, in messages per second.
    connections : int
        Connections open at once to the provider.

    Returns
    -------
    float
        Share of the messages that wait longer, from 0 to 1.

    Raises
    ------
    ValueError
        If `t` is negative, a rate is not positive, `connections` is not an integer of at least 1, or the offered load
        is not below `connections`: the queue then has no steady state.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.3.

    Examples
    --------
    >>> round(mmc_wait_exceeds(t=1, arrival_rate=8, service_rate=5, connections=2), 6)
    0.096238
    """
    if not t >= 0:
        raise ValueError(f"t must be at least 0, got {t}")
    _check_positive(arrival_rate=arrival_rate, service_rate=service_rate)
    _check_counts(connections=connections)
    offered_load = arrival_rate / service_rate
    _check_stable(offered_load, connections, f"connections={connections}")
    return erlang_c(connections, offered_load) * math.exp(-(connections * service_rate - arrival_rate) * t)


def mmck_blocked(arrival_rate: float, service_rate: float, connections: int, capacity: int) -> float:
    """Probability that a message finds an M/M/c/K queue full and is refused.

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_rate : float
        Messages one connection completes, in messages per second.
    connections : int
        Connections open at once to the provider.
    capacity : int
        Messages in the system at once (K): those waiting and those on a connection.

    Returns
    -------
    float
        Share of the messages that are refused, from 0 to 1.

    Raises
    ------
    ValueError
        If a rate is not positive, `connections` is not an integer of at least 1, or `capacity` is not an integer of at
        least `connections`.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.5.

    Examples
    --------
    >>> round(mmck_blocked(arrival_rate=2, service_rate=2, connections=1, capacity=3), 6)
    0.25
    """
    blocked, _ = _mmck(arrival_rate, service_rate, connections, capacity)
    return blocked


def mmck_mean_wait(arrival_rate: float, service_rate: float, connections: int, capacity: int) -> float:
    """Mean time an accepted message waits for a connection in an M/M/c/K queue.

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, the refused ones included, in messages per second.
    service_rate : float
        Messages one connection completes, in messages per second.
    connections : int
        Connections open at once to the provider.
    capacity : int
        Messages in the system at once (K): those waiting and those on a connection.

    Returns
    -------
    float
        Mean wait of the messages that are not refused, in seconds.

    Raises
    ------
    ValueError
        If a rate is not positive, `connections` is not an integer of at least 1, or `capacity` is not an integer of at
        least `connections`.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.5.

    Examples
    --------
    >>> round(mmck_mean_wait(arrival_rate=2, service_rate=2, connections=1, capacity=3), 6)
    0.5
    """
    blocked, queue_length = _mmck(arrival_rate, service_rate, connections, capacity)
    return queue_length / (arrival_rate * (1 - blocked))


def md1_mean_wait(arrival_rate: float, service_rate: float) -> float:
    """Mean time a message waits for the only connection when every message takes equally long (M/D/1).

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_rate : float
        Messages the connection completes, in messages per second.

    Returns
    -------
    float
        Mean wait, in seconds.

    Raises
    ------
    ValueError
        If a rate is not positive, or the offered load is not below 1: the queue then has no steady state.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §5.1: the
    Pollaczek-Khintchine formula with no variance.

    Examples
    --------
    >>> round(md1_mean_wait(arrival_rate=0.8, service_rate=1), 6)
    2.0
    """
    _check_positive(arrival_rate=arrival_rate, service_rate=service_rate)
    return mg1_mean_wait(arrival_rate, service_mean=1 / service_rate, service_scv=0)


def mdc_mean_wait(arrival_rate: float, service_rate: float, connections: int) -> float:
    """Mean time a message waits for a connection when every message takes equally long (M/D/c).

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_rate : float
        Messages one connection completes, in messages per second.
    connections : int
        Connections open at once to the provider.

    Returns
    -------
    float
        Mean wait, in seconds.

    Raises
    ------
    ValueError
        If a rate is not positive, `connections` is not an integer of at least 1, or the offered load is not below
        `connections`: the queue then has no steady state.

    Notes
    -----
    Looked at once in every service time, the number waiting is a random walk that never falls below 0: it gains a
    Poisson number of messages and loses `connections`. Spitzer's identity gives the mean of such a walk as the sum
    over k of ``E[(A_k - k c)+] / k``, A_k being Poisson with mean k times the offered load, and Little's law turns the
    number into a wait. With utilization rho, that takes about ``75 / (c (1 - rho)^2)`` terms: seconds if it is 0.99.

    References
    ----------
    Tijms, *A First Course in Stochastic Models* (2003), §9.6.1, pp. 378-384 (M/D/c); Spitzer, "A combinatorial lemma
    and its application to probability theory", *Transactions of the American Mathematical Society* 82 (1956), pp.
    323-339.

    Examples
    --------
    >>> round(mdc_mean_wait(arrival_rate=8, service_rate=5, connections=2), 6)
    0.180657
    """
    _check_positive(arrival_rate=arrival_rate, service_rate=service_rate)
    _check_counts(connections=connections)
    offered_load = arrival_rate / service_rate
    _check_stable(offered_load, connections, f"connections={connections}")
    queue_length = 0.0
    first = 1
    while True:
        k = np.arange(first, first + BLOCK)
        more = float(np.sum(_excess(k * offered_load, k * connections) / k))
        queue_length += more
        if more <= np.finfo(float).eps * queue_length:
            return queue_length / arrival_rate
        first += BLOCK


def mg1_mean_wait(arrival_rate: float, service_mean: float, service_scv: float) -> float:
    """Mean time a message waits for the only connection, whatever the law of its service time (M/G/1).

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the channel, in messages per second.
    service_mean : float
        Mean time the connection needs for a message, in seconds.
    service_scv : float
        Squared coefficient of variation of that time (variance over squared mean, no unit): 0 if constant, 1 if
        exponential.

    Returns
    -------
    float
        Mean wait, in seconds.

    Raises
    ------
    ValueError
        If `arrival_rate` or `service_mean` is not positive, `service_scv` is negative, or the offered load is not
        below 1: the queue then has no steady state.

    References
    ----------
    The Pollaczek-Khintchine formula; Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed.
    (2008), §5.1.

    Examples
    --------
    >>> round(mg1_mean_wait(arrival_rate=8, service_mean=0.1, service_scv=4), 6)
    1.0
    """
    _check_positive(arrival_rate=arrival_rate, service_mean=service_mean)
    if not 0 <= service_scv < math.inf:
        raise ValueError(f"service_scv must be at least 0 and finite, got {service_scv}")
    offered_load = arrival_rate * service_mean
    _check_stable(offered_load, 1, "1")
    return offered_load * service_mean * (1 + service_scv) / (2 * (1 - offered_load))


def mg1_beside_batches(
    arrival_rate: float, batch_rate: float, batch: int, service_mean: float, service_scv: float = 0.0
) -> float:
    """Mean time a single message waits for the only connection while neighbours send in batches (M/G/1, two streams).

    Parameters
    ----------
    arrival_rate : float
        Messages that come one by one, in messages per second.
    batch_rate : float
        Batches of the neighbours, in batches per second.
    batch : int
        Messages in one of them.
    service_mean : float
        Mean time the connection needs for a message, anybody's, in seconds.
    service_scv : float
        Squared coefficient of variation of that time (no unit).

    Returns
    -------
    float
        Mean wait of the messages that come one by one, in seconds. A batch's own messages wait longer, on average by
        ``(batch - 1) service_mean / 2``.

    Raises
    ------
    ValueError
        If a rate or `service_mean` is not positive, `batch` is not an integer of at least 1, `service_scv` is
        negative, or the offered load is not below 1: the queue then has no steady state.

    Notes
    -----
    A batch is one customer with the work of all its messages; whoever comes finds the work ``sum of rate E[work^2] /
    (2 (1 - load))`` before it, each stream adding its own.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §5.1 (M/G/1) and §3.1 (bulk
    arrivals).

    Examples
    --------
    >>> round(mg1_beside_batches(arrival_rate=0.2, batch_rate=0.06, batch=5, service_mean=1), 6)
    1.7
    >>> mg1_beside_batches(0.3, 0.4, batch=1, service_mean=1) == mg1_mean_wait(0.7, service_mean=1, service_scv=0)
    True
    """
    _check_positive(arrival_rate=arrival_rate, batch_rate=batch_rate, service_mean=service_mean)
    _check_counts(batch=batch)
    if not 0 <= service_scv < math.inf:
        raise ValueError(f"service_scv must be at least 0 and finite, got {service_scv}")
    offered_load = (arrival_rate + batch_rate * batch) * service_mean
    _check_stable(offered_load, 1, "1")
    squares = arrival_rate * (1 + service_scv) + batch_rate * batch * (batch + service_scv)
    return squares * service_mean**2 / (2 * (1 - offered_load))


def token_bucket_loss(offered: float, bucket: int) -> float:
    """Share of the messages that a token bucket refuses.

    Tokens flow in evenly, not in steps, as long as the bucket is not full. A message that finds a whole token takes it;
    any other is refused and takes nothing.

    Parameters
    ----------
    offered : float
        Messages offered per token: arrival rate over token rate, no unit.
    bucket : int
        Tokens in the full bucket (the burst), in messages.

    Returns
    -------
    float
        Share of the messages that are refused, from 0 to 1.

    Raises
    ------
    ValueError
        If `offered` is not positive and finite, or `bucket` is not an integer of at least 1.

    Notes
    -----
    What is missing from the bucket is the work of an M/D/1/K queue with K = `bucket` and a service time of one token:
    it falls evenly, each message adds 1, and a message is accepted if there were fewer than K in the system. With w(n)
    the probability that a served message leaves n behind and A the arrivals in a service time, each service loses
    ``x = sum of w(n) E[(A - (K - max(n, 1)))+]`` messages for the one it accepts: the loss is ``x / (1 + x)``. All
    terms are positive, so that small losses are as exact as large ones. The work grows with the square of `bucket`.

    References
    ----------
    Berger, "Performance analysis of a rate control throttle where tokens and jobs queue", *IEEE INFOCOM '90*, pp.
    30-38 (the bucket as a finite queue); Tijms, *A First Course in Stochastic Models* (2003), §9.4.1, pp. 366-369
    (M/G/1 with a finite buffer).

    Examples
    --------
    >>> round(token_bucket_loss(offered=0.8, bucket=5), 9)
    0.035290396
    """
    _check_positive(offered=offered)
    _check_counts(bucket=bucket)
    left_behind = np.arange(bucket)
    weights = _left_behind(offered, bucket)
    lost = float(weights @ _excess(offered, bucket - np.maximum(left_behind, 1)))
    return lost / (float(np.sum(weights)) + lost)


def fixed_window_loss(limit: int, offered: float) -> float:
    """Share of the messages refused by a limit that is set back at fixed times.

    The windows begin by the clock, whether or not there are messages; they do not begin with a first message.

    Parameters
    ----------
    limit : int
        Messages accepted in one window.
    offered : float
        Messages offered in one window, on average.

    Returns
    -------
    float
        Share of the messages that are refused, from 0 to 1.

    Raises
    ------
    ValueError
        If `limit` is not an integer of at least 1, or `offered` is not positive and finite.

    Notes
    -----
    ``E[(A - N)+] / m``: the messages A of one window are Poisson with mean m = `offered`, and those above N = `limit`
    are refused. As ``k P(A = k) = m P(A = k - 1)``, it is ``P(A >= N) - N P(A >= N + 1) / m``.

    References
    ----------
    Pauly, "Loss functions for inventory control" (2025), arXiv:2502.05212: the first-order loss function of the Poisson
    distribution.

    Examples
    --------
    >>> round(fixed_window_loss(limit=60, offered=60), 9)
    0.051431745
    """
    _check_counts(limit=limit)
    _check_positive(offered=offered)
    return float(_excess(offered, limit)) / offered


def sliding_accepted_loss(limit: int, offered: float) -> float:
    """Share of the messages refused by a sliding window that counts accepted messages only.

    A message is accepted if fewer than `limit` were accepted in the window that ends now.

    Parameters
    ----------
    limit : int
        Messages accepted in any one window.
    offered : float
        Messages offered in one window, on average.

    Returns
    -------
    float
        Share of the messages that are refused, from 0 to 1.

    Raises
    ------
    ValueError
        If `limit` is not an integer of at least 1, or `offered` is not positive and finite.

    Notes
    -----
    Each accepted message takes one of `limit` places for exactly one window: Erlang's loss formula, which holds for any
    law of that time.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.6 and §5.2 (M/G/c/c).

    Examples
    --------
    >>> round(sliding_accepted_loss(limit=20, offered=18), 8)
    0.10921285
    """
    _check_counts(limit=limit)
    _check_positive(offered=offered)
    return erlang_b(servers=limit, offered_load=offered)


def sliding_attempts_loss(limit: int, offered: float) -> float:
    """Share of the messages refused by a sliding window that counts every attempt, refused ones too.

    A message is accepted if fewer than `limit` were offered in the window that ends now.

    Parameters
    ----------
    limit : int
        Attempts in any one window up to which messages are accepted.
    offered : float
        Messages offered in one window, on average.

    Returns
    -------
    float
        Share of the messages that are refused, from 0 to 1.

    Raises
    ------
    ValueError
        If `limit` is not an integer of at least 1, or `offered` is not positive and finite.

    Notes
    -----
    ``P(A >= N)``: the attempts A in the window before a message are Poisson with mean `offered`, and N = `limit`.

    References
    ----------
    Wolff, "Poisson arrivals see time averages", *Operations Research* 30 (1982), pp. 223-231.

    Examples
    --------
    >>> round(sliding_attempts_loss(limit=10, offered=8), 6)
    0.283376
    """
    _check_counts(limit=limit)
    _check_positive(offered=offered)
    return float(_at_least(limit, offered))


def connection_limit_loss(connections: int, offered_load: float) -> float:
    """Share of the sessions refused by a provider that allows so many connections at once.

    Parameters
    ----------
    connections : int
        Connections the provider allows at once.
    offered_load : float
        Sessions begun in one mean session length, the refused ones included, in erlang.

    Returns
    -------
    float
        Share of the sessions that are refused, from 0 to 1, whatever the law of a session's length.

    Raises
    ------
    ValueError
        If `connections` is not an integer of at least 1, or `offered_load` is not positive and finite.

    References
    ----------
    Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed. (2008), §2.6 and §5.2 (M/G/c/c).

    Examples
    --------
    >>> round(connection_limit_loss(connections=5, offered_load=3), 6)
    0.110054
    """
    _check_counts(connections=connections)
    return erlang_b(servers=connections, offered_load=offered_load)


def shaper_mean_delay(arrival_rate: float, token_rate: float, bucket: int) -> float:
    """Mean time a message is kept by a token bucket that delays what it cannot pass at once.

    Parameters
    ----------
    arrival_rate : float
        Messages offered to the shaper, in messages per second.
    token_rate : float
        Messages the shaper lets through in the long run, in messages per second.
    bucket : int
        Tokens in the full bucket (the burst), in messages.

    Returns
    -------
    float
        Mean delay of all messages, those that pass at once included, in seconds.

    Raises
    ------
    ValueError
        If a rate is not positive, `bucket` is not an integer of at least 1, or `arrival_rate` is not below
        `token_rate`: the queue then has no steady state.

    Notes
    -----
    The tokens missing, those owed to waiting messages included, are the work V of an M/D/1 queue with a service time of
    one token. A message is kept while fewer than one token is left to it: ``E[(V - (B - 1))+]`` tokens on average, B
    being `bucket`. The messages kept are those in the M/D/1 system beyond B, so by Little's law the delay is
    ``E[(L - B)+] / arrival_rate``, L being the number in the system.

    That mean follows from the L that departures leave behind. If more than B are left, the next departure leaves A - 1
    more of them, A being the arrivals in a service time; if n <= B are left, it leaves ``(A - r)+`` beyond B, with
    r = B + 1 - max(n, 1). In the steady state neither ``(L - B)+`` nor its square changes on average:

    - ``(1 - rho) P(L > B) = sum over n <= B of P(L = n) E[(A - r)+]``,
    - ``2 (1 - rho) E[(L - B)+] = (rho + (1 - rho)^2) P(L > B) + sum over n <= B of P(L = n) E[(A - r)+^2]``.

    References
    ----------
    Berger, "Performance analysis of a rate control throttle where tokens and jobs queue", *IEEE INFOCOM '90*, pp.
    30-38 (the bucket as a queue); Gross, Shortle, Thompson and Harris, *Fundamentals of Queueing Theory*, 4th ed.
    (2008), §5.1 (the number an M/G/1 departure leaves behind).

    Examples
    --------
    >>> round(shaper_mean_delay(arrival_rate=0.8, token_rate=1, bucket=1), 6)
    2.0
    >>> round(shaper_mean_delay(arrival_rate=0.8, token_rate=1, bucket=5), 6)
    0.358878
    """
    _check_positive(arrival_rate=arrival_rate, token_rate=token_rate)
    _check_counts(bucket=bucket)
    load = arrival_rate / token_rate
    if not load < 1:
        raise ValueError(f"unstable: arrival_rate={arrival_rate} must be below token_rate={token_rate}")
    weights = _left_behind(load, bucket + 1)
    probability = (1 - load) * weights / weights[0]
    room = bucket + 1 - np.maximum(np.arange(bucket + 1), 1)
    square = (
        load**2 * _at_least(room - 1, load)
        - (2 * room - 1) * load * _at_least(room, load)
        + room**2 * _at_least(room + 1, load)
    )
    beyond = float(probability @ _excess(load, room)) / (1 - load)
    queue_length = ((load + (1 - load) ** 2) * beyond + float(probability @ square)) / (2 * (1 - load))
    return queue_length / arrival_rate


def _mmck(arrival_rate: float, service_rate: float, connections: int, capacity: int) -> tuple[float, float]:
    """Probability that an M/M/c/K queue is full, and the mean number waiting."""
    _check_positive(arrival_rate=arrival_rate, service_rate=service_rate)
    _check_counts(connections=connections, capacity=capacity)
    if capacity < connections:
        raise ValueError(f"capacity must be at least connections={connections}, got {capacity}")
    offered_load = arrival_rate / service_rate
    blocked = erlang_b(connections, offered_load)
    queue_length = 0.0
    # One place more: given that it is free, all is as before.
    for places in range(1, capacity - connections + 1):
        blocked = offered_load * blocked / (connections + offered_load * blocked)
        queue_length += blocked * (places - queue_length)
    return blocked, queue_length


def _left_behind(load: float, states: int) -> NDArray[np.float64]:
    """Relative probabilities that an M/D/1 departure leaves 0, 1, ..., states - 1 behind; the largest is 1."""
    more_than = _at_least(np.arange(1, states + 1), load)
    weights = np.zeros(states)
    weights[0] = 1
    down = math.exp(-load)
    for n in range(states - 1):
        # As many steps lead from n + 1 down to n as from 0 to n up beyond n.
        up = float(weights[0] * more_than[n] + weights[1 : n + 1] @ more_than[n:0:-1])
        step = up / down if down else math.inf
        weights[: n + 1] /= max(1, step)
        weights[n + 1] = min(1, step)
    return weights


def _excess(mean: float | NDArray[np.floating], limit: int | NDArray[np.integer]) -> Any:
    """E[(A - limit)+], the mean number above the limit, for a Poisson A."""
    return mean * _at_least(limit, mean) - limit * _at_least(limit + 1, mean)


def _at_least(count: int | NDArray[np.integer], mean: float | NDArray[np.floating]) -> Any:
    """P(A >= count) for a Poisson A."""
    from scipy.special import gammainc

    return gammainc(count, mean)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_counts(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int | np.integer):
            raise ValueError(f"{name} must be an integer, got {value}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_stable(offered_load: float, capacity: int, name: str) -> None:
    if not offered_load < capacity:
        raise ValueError(f"unstable: offered load {offered_load:g} must be below {name}")
