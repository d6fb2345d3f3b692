"""What `nadi doctor` says of certificates: how long each is valid, theirs and ours.

A certificate that does not pass stops every connection, and is told of where the connection is
tried; here are those that will not pass soon.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

from adapters.certificate_dates import end_of_peer, ends_in_file
from adapters.fhir_rest.transport import public_authorities
from adapters.site import Site, System
from adapters.site_dicom import DicomEntry
from adapters.site_mllp import MllpEntry
from adapters.tls import peer_verify
from gateway.cli.doctor_feeds import FeedFinding
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError

_WITHIN_S = 5.0
_RENEW_DAYS = 30
_HTTPS_PORT = 443
_RENEW_THEIRS = "its administrator has to renew it"


def tls_findings(site: Site) -> Iterator[FeedFinding]:
    """Look at every certificate that the site's connections and ports rest on."""
    now = utc_now()
    for system in site.systems.values():
        yield from _shown_by(system, now)
    for file, is_ours in _files(site).items():
        yield _in_file(Path(file), now, is_ours=is_ours)


def _shown_by(system: System, now: datetime) -> Iterator[FeedFinding]:
    """Look at what a system shows; where there is no connection, other checks say why."""
    for host, port, files in dict.fromkeys(_places(system)):
        try:
            verify = peer_verify(files)
            context = verify if isinstance(verify, SSLContext) else public_authorities()
            end = end_of_peer(host, port, context, timeout_s=_WITHIN_S)
        except (OSError, ConfigurationError):
            continue
        if end is not None:
            check = f"certificate {system.name}"
            yield told_end(check, f"of {host}:{port}", end, now, _RENEW_THEIRS)


def _places(system: System) -> Iterator[tuple[str, int, tuple[str, str | None] | None]]:
    """Give host, port and TLS files of the places of a system that speak TLS."""
    try:
        urls = [system.base_url if system.address else None, system.dicomweb_url]
    except ConfigurationError:  # a variable is not set
        urls = []
    for url in urls:
        parts = urlsplit(url or "")
        if parts.scheme == "https" and parts.hostname:
            yield parts.hostname, parts.port or _HTTPS_PORT, system.tls
    if system.oru and system.oru.tls:
        yield system.oru.host, system.oru.port, system.oru.tls


def _files(site: Site) -> dict[str, bool]:
    """Give the files with certificates that the site names, and whether they are our own."""
    found: dict[str, bool] = {}
    for system in site.systems.values():
        for files in filter(None, (system.tls, system.oru.tls if system.oru else None)):
            authority, certificate = files
            found |= {authority: False} | ({certificate: True} if certificate else {})
    for feed in site.feeds.values():
        tls = feed.entry.tls if isinstance(feed.entry, MllpEntry | DicomEntry) else None
        if tls:
            found |= {tls.certificate: True} | ({tls.clients: False} if tls.clients else {})
    return found


def _in_file(file: Path, now: datetime, *, is_ours: bool) -> FeedFinding:
    check = f"certificate {file.name}"
    try:
        ends = ends_in_file(file)
    except ConfigurationError as error:
        return FeedFinding(check, error.message, is_fault=True)
    remedy = "put a new one into the file, then restart Nadi"
    return told_end(check, f"in {file}", _decisive(ends, is_ours=is_ours), now, remedy)


def _decisive(ends: Sequence[datetime], *, is_ours: bool) -> datetime:
    """Our chain holds while all of it does; of authorities, old ones may stand beside a new one."""
    return min(ends) if is_ours else max(ends)


def told_end(check: str, where: str, end: datetime, now: datetime, remedy: str) -> FeedFinding:
    """Say how long a certificate is valid yet.

    Args:
        check: Name of the check.
        where: In which file or at which address it is.
        end: When it runs out.
        now: Present time.
        remedy: What to do when that is soon.
    """
    days, day = (end - now).days, end.date().isoformat()
    if end <= now:
        return FeedFinding(check, f"{where}: ran out on {day}; {remedy}", is_fault=True)
    left = f"{where}: {days} days left, until {day}"
    if days < _RENEW_DAYS:
        return FeedFinding(check, f"{left}; {remedy}", is_fault=None)
    return FeedFinding(check, left, is_fault=False)
