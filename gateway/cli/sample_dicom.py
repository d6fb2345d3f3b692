"""A sample that is a DICOM file, as the listener of its feed would hand it over."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from adapters.dicom.header import TOO_MANY_BYTES, NotUnderstood, read_header, split_file
from adapters.dicom.study import bundle_of, own_patient_id
from adapters.hl7v2.identity import FindPatient, plain_id
from adapters.site import Site
from adapters.site_feeds import Feed
from gateway.cli.context import Opened
from gateway.core.errors import ConfigurationError
from gateway.listeners.dicom import KIND, origin_of
from gateway.listeners.patients import finding
from gateway.settings import get_settings

if TYPE_CHECKING:
    from adapters.site_dicom import DicomEntry

#: Of a study that is never kept.
_VERSION = "sample"


def feed_for(site: Site, system: str, name: str | None) -> Feed:
    """Find the feed that an image about the patients of a system would come by.

    Args:
        site: The site.
        system: Whose patients they are.
        name: Of the feed, where it was given.

    Raises:
        ConfigurationError: There is none, or several and none was named.
    """
    speaking = (each for each in site.feeds.values() if each.speaks_for == system)
    found = {each.name: each for each in speaking if each.kind == KIND}
    chosen = found.get(name) if name else next(iter(found.values()), None)
    if chosen is None or (name is None and len(found) > 1):
        known = ", ".join(found) or "none"
        what = f"There is no DICOM feed '{name}'" if name else "Name the feed with --feed"
        raise ConfigurationError(f"{what}; of the feeds about the patients of '{system}': {known}.")
    return chosen


def bundle_of_file(raw: bytes, feed: Feed, site: Site, nadi: Opened | None) -> bytes:
    """Make the Bundle of a study that has one image.

    Args:
        raw: Its file.
        feed: The feed that it would come by.
        site: The site.
        nadi: The installation; without one no EHR is asked for the patient.

    Raises:
        NotUnderstood: The listener would refuse it.
        TransientError: The EHR, which knows the patient, is away.
    """
    entry = cast("DicomEntry", feed.entry)
    if len(raw) > entry.max_bytes:
        raise NotUnderstood(TOO_MANY_BYTES, f"It has more than {entry.max_bytes} bytes.")
    syntax, content = split_file(raw)
    header = read_header(content, syntax, max_bytes=entry.max_bytes, max_pixels=entry.max_pixels)
    # Age and sex are asked of the EHR; here the image has to do, as no chart is read.
    origin = replace(origin_of(feed, site, get_settings().max_body_bytes), has_own_patients=True)
    with _finding(feed, site, nadi) as find:
        found = find(header.patient) or own_patient_id(origin, header.patient)
    return bundle_of([header], lambda _: raw, patient_id=found, version=_VERSION, origin=origin)


def _finding(feed: Feed, site: Site, nadi: Opened | None) -> AbstractContextManager[FindPatient]:
    if nadi is None:
        return nullcontext(plain_id)
    timeout_s = nadi.settings.ehr_timeout_s
    return finding(feed, nadi.store, nadi.source(), site=lambda: site, timeout_s=timeout_s)
