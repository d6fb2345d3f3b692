"""Which entries of a Bundle are received: those that say what a resource is now.

* An entry without a resource, or whose request is not a create, an update or a deletion
  (`gateway.api.deletions`), is refused visibly. To ignore it would be unsafe: behind a DELETE there
  may be a Consent that holds no longer.
* An update has to carry the id that its address names, or versions of it could not be told.
* A Consent has to be about a patient that is known here, in a Bundle or alone: what can't be
  assigned would have no effect, and nobody would hear that a denial was lost.

Source: FHIR R4 Bundle (http://hl7.org/fhir/R4/bundle.html), http.html#transaction, #update.
"""

from dataclasses import replace

from gateway.core.errors import Issue
from gateway.core.event import Facts
from gateway.core.fhir import BundleEntry, ParsedBundle

_RECEIVED_METHODS = frozenset({None, "POST", "PUT"})
# These say of themselves that they are one whole: part of one would mean something else.
_WHOLE = frozenset({"transaction", "document", "message"})


def with_refusals(bundle: ParsedBundle) -> ParsedBundle:
    """Say at each entry that can't be received why; those that can stay as they are."""
    return replace(bundle, entries=tuple(_judged(entry) for entry in bundle.entries))


def is_whole(bundle: ParsedBundle) -> bool:
    """Say whether one entry that is refused refuses the whole Bundle."""
    return bundle.type in _WHOLE


def lost_consent(read: Facts, at: str) -> Issue | None:
    """Say why a Consent can't be received: it would never be asked for any patient.

    Args:
        read: The facts of any resource.
        at: FHIRPath of the resource.
    """
    if read.resource_type != "Consent" or read.patient is not None:
        return None
    words = (
        "This Consent names no patient of this system, so it would have no effect. Refer to "
        "Patient/<id>, or to an absolute address below the base_url of the system, or push a "
        "Bundle whose Patient has an id."
    )
    return Issue("business-rule", words, f"{at}.patient")


def _judged(entry: BundleEntry) -> BundleEntry:
    if entry.issues:
        return entry
    issue = _issue(entry)
    return entry if issue is None else replace(entry, resource=None, issues=(issue,))


def _issue(entry: BundleEntry) -> Issue | None:
    at = f"Bundle.entry[{entry.index}]"
    if entry.method not in _RECEIVED_METHODS:
        words = f"{entry.method} is not done so here: push what the resource is now, by its id."
        return Issue("not-supported", words, f"{at}.request.method")
    if entry.resource is None:
        return Issue("not-supported", "An entry without a resource changes nothing here.", at)
    if entry.method == "PUT" and not _fits_address(entry):
        words = "The id of the resource has to be the id in the address of its request."
        return Issue("value", words, f"{at}.resource.id")
    return None


def _fits_address(entry: BundleEntry) -> bool:
    """Compare the address of an update with its resource; a conditional one names no id.

    HAPI's history names the version in it too.
    """
    url = (entry.url or "").partition("/_history/")[0]
    if entry.resource is None or "?" in url:
        return True
    named = url.rstrip("/").split("/")[-2:]
    return named == [entry.resource.type, entry.resource.content.get("id")]
