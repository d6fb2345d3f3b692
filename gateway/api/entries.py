"""Which entries of a Bundle are received: those that say what a resource is now.

* An entry without a resource, or whose request is not a create or an update, is refused visibly.
  To ignore it would be unsafe: behind a DELETE there may be a Consent that holds no longer.
* An update has to carry the id that its address names, or versions of it could not be told.

Source: FHIR R4 Bundle (http://hl7.org/fhir/R4/bundle.html), http.html#transaction, #update.
"""

from dataclasses import replace

from gateway.core.errors import Issue
from gateway.core.fhir import BundleEntry, ParsedBundle

_RECEIVED_METHODS = frozenset({None, "POST", "PUT"})


def with_refusals(bundle: ParsedBundle) -> ParsedBundle:
    """Say at each entry that can't be received why; those that can stay as they are."""
    return replace(bundle, entries=tuple(_judged(entry) for entry in bundle.entries))


def _judged(entry: BundleEntry) -> BundleEntry:
    if entry.issues:
        return entry
    issue = _issue(entry)
    return entry if issue is None else replace(entry, resource=None, issues=(issue,))


def _issue(entry: BundleEntry) -> Issue | None:
    at = f"Bundle.entry[{entry.index}]"
    if entry.method not in _RECEIVED_METHODS:
        words = f"{entry.method} is not done here: push what the resource is now, with its status."
        return Issue("not-supported", words, f"{at}.request.method")
    if entry.resource is None:
        return Issue("not-supported", "An entry without a resource changes nothing here.", at)
    if entry.method == "PUT" and not _fits_address(entry):
        words = "The id of the resource has to be the id in the address of its request."
        return Issue("value", words, f"{at}.resource.id")
    return None


def _fits_address(entry: BundleEntry) -> bool:
    """Compare the address of an update with its resource; a conditional one names no id."""
    url = entry.url or ""
    if entry.resource is None or "?" in url:
        return True
    named = url.rstrip("/").split("/")[-2:]
    return named == [entry.resource.type, entry.resource.content.get("id")]
