"""`sendlab providers`: the facts, with their sources."""

import argparse
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from simlib import argument

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add `providers` to the commands.

    Parameters
    ----------
    commands : argparse's subparsers
        What `add_subparsers` gave.

    Examples
    --------
    >>> parser = argument.Parser()
    >>> add(parser.add_subparsers())
    >>> parser.parse_args(["providers", "office365"]).stale
    False
    """
    providers = commands.add_parser(
        "providers",
        help="the facts: limits and sentences, with sources and grades",
        description="Lists the providers, or the facts about one: every limit and sentence with its source, date and "
        "grade (A vendor's document or code, B real transcript, C quoted, D single claim, assumed).",
    )
    providers.add_argument("name", metavar="NAME", nargs="?", help="one provider")
    providers.add_argument("--stale", action="store_true", help="list facts past their review date; exit 1 if any")
    argument.facts_options(providers, readings=False)
    providers.set_defaults(run=_providers)


def _providers(options: argparse.Namespace) -> int:
    from simlib.provider import Provider, names

    chosen = [Provider.load(name) for name in ([options.name] if options.name else names())]
    if options.as_of:
        chosen = [provider.on(options.as_of) for provider in chosen]
    if options.stale:
        return _stale(chosen, options)
    if options.json:
        facts = [provider.model_dump(mode="json", by_alias=True, exclude_unset=True) for provider in chosen]
        print(json.dumps(facts[0] if options.name else facts))
        return 0
    if not options.name:
        for provider in chosen:
            limits = ", ".join(f"{limit.id} {limit.limit or 'off'}" for limit in provider.limits)
            print(f"{provider.name:16}{provider.title}\n{'':16}{limits}")
        print("\nsendlab providers NAME shows the sources.")
        return 0
    provider = chosen[0]
    print(
        f"{provider.title}\n"
        f"{provider.role}, credential of {provider.credential}, AUTH {' '.join(provider.auth) or 'none'}"
    )
    if provider.note:
        print(provider.note)
    for limit in provider.limits:
        assumed = f"; assumed: {', '.join(limit.assumed)}" if limit.assumed else ""
        print(f"\n{provider.name}/{limit.id}: {limit.limit or 'off'} {limit.count} per {limit.per}")
        kind = f"{limit.window} window, " if limit.window else ""
        print(f"  {kind}counts {limit.counts}, {limit.on_excess} at {limit.at}{assumed}")
        if not limit.holds:
            reply = provider.refusal(limit)
            print(f"  says: {reply.code} {reply.enhanced} {reply.text}".replace("\n", " / "))
        print(f"  grade {limit.grade}, {limit.as_of}, review by {limit.review_by}: {limit.source}")
        for reading in limit.readings:
            print(
                f"  or, read as {reading['name']!r}: grade {reading['grade']}, {reading['as_of']}: {reading['source']}"
            )
    print("\nSentences:")
    for sentence in provider.replies:
        first = sentence.text.partition("\n")[0]
        print(
            f"  {sentence.when:16} {sentence.code} {sentence.enhanced} {first}\n"
            f"{'':19}grade {sentence.grade}, {sentence.as_of}: {sentence.source}"
        )
    return 0


def _stale(providers: Sequence[Any], options: argparse.Namespace) -> int:
    today = options.as_of or dt.datetime.now(dt.UTC).date()
    found = [
        {
            "provider": provider.name,
            "fact": getattr(fact, "id", getattr(fact, "when", "")),
            "review_by": str(fact.review_by),
        }
        for provider in providers
        for fact in (*provider.limits, *provider.replies)
        if fact.review_by and fact.review_by < today
    ]
    if options.json:
        print(json.dumps(found))
    else:
        for fact in found:
            print(f"{fact['provider']}/{fact['fact']}: to be reviewed by {fact['review_by']}")
        if not found:
            print(f"No fact is past its review date on {today}.")
    return 1 if found else 0
