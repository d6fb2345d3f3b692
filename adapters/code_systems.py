"""URIs of code systems that were written almost right.

Code systems are compared letter by letter: `https://loinc.org` is another one than
`http://loinc.org`, so a route with it never matches, and nobody is told.

Source: FHIR R4, "Code Systems" (terminologies-systems); `adapters/hl7v2/tables/code_systems.csv`.
"""

import difflib
import re

from adapters.hl7v2.tables import known_code_systems

LOINC = "http://loinc.org"
_SNOMED, _UCUM = "http://snomed.info/sct", "http://unitsofmeasure.org"
#: Object identifiers of code systems, in place of which FHIR has URIs.
_OIDS = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.8": _UCUM,
    "urn:oid:2.16.840.1.113883.6.96": _SNOMED,
    "urn:oid:2.16.840.1.113883.6.88": "http://www.nlm.nih.gov/research/umls/rxnorm",
}
#: Names of hosts, without what follows the last dot, and the code system that is meant.
_HOSTS = {"loinc": LOINC, "snomed": _SNOMED, "unitsofmeasure": _UCUM, "ucum": _UCUM}
_URL = re.compile(r"(?:https?://)?(?:www\.)?([a-z0-9-]+)\.[a-z]{2,}(?:/([^?]*))?")
_NEAR = 0.8
#: HL7's own, of which there are hundreds, all without TLS.
_HL7 = re.compile(r"(?:https?://)?(?:www\.)?((?:terminology\.)?hl7\.org/.+?)[/#]*")


def meant_system(uri: str) -> str | None:
    """Give the code system that a URI was probably meant to be; None where it is well, or not one.

    Args:
        uri: As it was written.
    """
    known = known_code_systems()
    if uri in known:
        return None
    lower = uri.lower().rstrip("/#")
    found = next((each for each in sorted(known) if _bare(each) == _bare(lower)), None)
    return found or _OIDS.get(lower) or _of_hl7(uri) or _of_host(lower)


def _bare(uri: str) -> str:
    return re.sub(r"^https?://", "", uri).removeprefix("www.")


def _of_hl7(uri: str) -> str | None:
    found = _HL7.fullmatch(uri)
    right = f"http://{found[1]}" if found else uri
    return right if right != uri else None


def _of_host(lower: str) -> str | None:
    """Find it by a host that is spelt almost like one: `loinc.com`, `lonic.org`, `snomed.info`."""
    found = _URL.fullmatch(lower)
    near = difflib.get_close_matches(found[1], _HOSTS, n=1, cutoff=_NEAR) if found else []
    if found is None or not near:
        return None
    system, path = _HOSTS[near[0]], (found[2] or "").strip("/#")
    is_page_of_code = system == LOINC and re.fullmatch(r"[0-9]+-[0-9]", path)
    is_root = path in {"", _bare(system).partition("/")[2]}
    return system if is_root or is_page_of_code else None
