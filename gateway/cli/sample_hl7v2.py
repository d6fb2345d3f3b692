"""A sample that is an HL7 v2 message, converted as the listener of its feed would convert it."""

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from adapters.hl7v2.conversion import convert
from adapters.hl7v2.dialect import Note
from adapters.hl7v2.identity import FindPatient, plain_id
from adapters.hl7v2.message import parsed, split_batch
from adapters.site import Site
from adapters.site_feeds import Feed
from gateway.cli.context import Opened
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError
from gateway.listeners.mllp import KIND, dialect_of, origin_of
from gateway.listeners.patients import finding

_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?[\s\x0b]*(MSH|FHS|BHS)")
_BLOCKS = b"\x0b\x1c\r\n "


def is_hl7v2(raw: bytes) -> bool:
    """Say whether a sample is an HL7 v2 message or a batch of them."""
    return _BEGINS.match(raw) is not None


def feed_for(site: Site, system: str, name: str | None) -> Feed:
    """Find the feed that a message of a system would come by.

    Args:
        site: The site.
        system: Whose patients the message is about.
        name: Of the feed, where it was given.

    Raises:
        ConfigurationError: There is none, or several and none was named.
    """
    speaking = (each for each in site.feeds.values() if each.speaks_for == system)
    found = {each.name: each for each in speaking if each.kind == KIND}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[name]
    known = ", ".join(found) or "none"
    what = f"There is no HL7 v2 feed '{name}'" if name else "Name the feed with --feed"
    raise ConfigurationError(f"{what}; of the feeds about the patients of '{system}': {known}.")


def bundle_of(raw: bytes, feed: Feed, site: Site, nadi: Opened | None) -> tuple[bytes, list[Note]]:
    """Convert a message; of a batch its first one.

    Args:
        raw: The message, with or without the blocks of MLLP.
        feed: The feed that it would come by.
        site: The site.
        nadi: The installation; without one no EHR is asked for the patient.

    Returns:
        The Bundle, and what was left out.

    Raises:
        Hl7Problem: It is no message that is taken.
        TransientError: The EHR, which knows the patient, is away.
    """
    content = split_batch(raw.strip(_BLOCKS))[0]
    dialect = dialect_of(feed, site)
    message = parsed(content, charset=dialect.charset)
    with _finding(feed, site, nadi) as find:
        # Age and gender are asked of the EHR; here the message has to do, as no chart is read.
        origin = replace(origin_of(feed, find), has_own_patients=True)
        made = convert(message, content, origin, dialect, utc_now())
    return made.bundle, list(made.notes)


def _finding(feed: Feed, site: Site, nadi: Opened | None) -> AbstractContextManager[FindPatient]:
    if nadi is None:
        return nullcontext(plain_id)
    timeout_s = nadi.settings.ehr_timeout_s
    return finding(feed, nadi.store, nadi.source(), site=lambda: site, timeout_s=timeout_s)
