"""What `nadi doctor` says of each EHR: is it there, what can it do, what time is it, may we in?

The CapabilityStatement is open to everybody, so a login is proved by what needs one: of each type
of resource that is read there, one resource is asked for, and of it only the id. Of an archive of
images the instances of a study are asked for that nobody has.

Source: RFC 9110 sections 6.6.1 (Date), 15.5.2 (401) and 15.5.4 (403).
"""

from collections.abc import Iterator, Sequence

from adapters.authorization import BasicLogin, Login
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrLoginFailed, EhrRefused, EhrTimeout, EhrUnreachable
from adapters.fhir_rest.skew import Skew, measured
from adapters.site import Site, System
from adapters.site_following import FollowEntry
from adapters.token_login import TokenLogin
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.doctor_remedies import with_remedy
from gateway.cli.doctor_systems import of_itself
from gateway.cli.machine import ClockState, clock_state
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError, GatewayError
from gateway.store.unit_of_work import Store
from workers.ehrs import Connection, Ehrs

_WITHIN_S = 5.0
#: Further apart, times of both machines can't be compared without care.
_CARE_S = 5.0
#: Further apart, nothing of the other's times can be relied on; a token is refused from 30 s on.
_BROKEN_S = 60.0
_BAD_REQUEST, _FORBIDDEN = 400, 403
#: A study that no archive has: made from a UUID, so that it is nobody's (DICOM PS3.5 B.2).
_NO_STUDY = "2.25.270797160193283446318049331164146541101"
#: What a model reads alone, without the patient's Observations.
_READ_ALONE = frozenset({"ImagingStudy", "DocumentReference", "DiagnosticReport"})
_GOES_BY_IT = "When a consent holds, which value is the newest and CDS tokens go by both clocks."
_MENDED = {
    ClockState.KEPT: "NTP keeps this machine in time: set up NTP on the EHR's.",
    ClockState.NOT_KEPT: "NTP does not keep this machine in time: set it up here, then look again.",
    ClockState.YEARS_BEHIND: "This machine's clock is wrong: set up NTP here, then look again.",
    ClockState.UNKNOWN: "Set up NTP on both.",
}


def ehr_findings(site: Site, store: Store) -> Iterator[FeedFinding]:
    """Ask every system that has a FHIR API."""
    ehrs = Ehrs(lambda: site, store=store, timeout_s=_WITHIN_S)
    for system in site.systems.values():
        if system.address:
            yield from _of_system(site, system, ehrs)
    ehrs.close()


def silent(site: Site, store: Store) -> list[str]:
    """List what is wrong with the systems, in words."""
    return [f"{each.check}: {each.says}" for each in ehr_findings(site, store) if each.is_fault]


def read_types(site: Site, system: str) -> tuple[str, ...]:
    """List the types of resources that are read of a system."""
    types = dict.fromkeys(["Patient"])
    for route in site.routes:
        is_read_more = route.source == system and route.resource_type not in _READ_ALONE
        if is_read_more or route.sink == system:  # what was written is looked for there
            types["Observation"] = None
    for feed in site.feeds.values():
        if feed.system == system and isinstance(feed.entry, FollowEntry):
            types |= dict.fromkeys(each.partition("?")[0] for each in feed.entry.types)
    return tuple(types)


def _of_system(site: Site, system: System, ehrs: Ehrs) -> Iterator[FeedFinding]:
    check = f"system {system.name}"
    try:
        connection = ehrs.connection(system.name)
        says, is_well = of_itself(ehrs, system.name, system.terms)
        yield FeedFinding(check, says, is_fault=False if is_well else None)
    except (EhrUnreachable, EhrTimeout, ConfigurationError) as error:
        yield FeedFinding(check, with_remedy(error), is_fault=True)
        return  # nothing else could be asked
    except GatewayError as error:
        yield FeedFinding(check, with_remedy(error), is_fault=True)
    yield _clock(system.name, connection.client)
    yield _login(system, connection.client, read_types(site, system.name))
    if connection.archive:
        yield _archive(system, connection)


def _clock(name: str, client: FhirClient) -> FeedFinding:
    check = f"clock {name}"
    try:
        skew = measured(client.told_time, utc_now)
    except GatewayError as error:
        return FeedFinding(check, f"not measured: {error.message}", is_fault=None)
    if skew is None:
        return FeedFinding(
            check, "not measured: its answers have no Date of their own; compare by hand", None
        )
    return told_skew(check, skew, clock_state())


def told_skew(check: str, skew: Skew, ours: ClockState) -> FeedFinding:
    """Say how far a clock is from ours, and on which machine that is mended.

    Args:
        check: Name of the check.
        skew: What was measured.
        ours: Whether our own clock is kept in time.
    """
    way = "ahead of" if skew.ahead_s > 0 else "behind"
    exact = f"± {skew.uncertainty_s:.1f} s"
    if skew.surely_s <= _CARE_S:
        near = f"{abs(skew.ahead_s):.1f} s {way} this machine's"
        return FeedFinding(check, f"{near} ({exact})", is_fault=False)
    says = f"{abs(skew.ahead_s):.0f} s {way} this machine's ({exact}). {_GOES_BY_IT}"
    is_broken = skew.surely_s > _BROKEN_S
    return FeedFinding(check, f"{says} {_MENDED[ours]}", is_fault=True if is_broken else None)


def _login(system: System, client: FhirClient, types: Sequence[str]) -> FeedFinding:
    """Ask for one resource of each type; what is refused is told by type."""
    check, who = f"login {system.name}", _credential(system.login, "auth")
    forbidden: list[str] = []
    unclear: list[str] = []
    for each in types:
        try:
            _ask(client, each, system.test_patient)
        except EhrLoginFailed as error:
            return FeedFinding(check, f"{each}: {_not_accepted(error, system.login, 'auth')}", True)
        except EhrRefused as error:
            named = each if error.status == _FORBIDDEN else f"{each} (HTTP {error.status})"
            (forbidden if error.status == _FORBIDDEN else unclear).append(named)
        except EhrTimeout:  # of all patients it may take long: no word on the login
            unclear.append(f"{each} (no answer in time)")
        except GatewayError as error:
            return FeedFinding(check, f"{each}: {with_remedy(error)}", is_fault=True)
    if forbidden:
        return FeedFinding(check, f"HTTP 403: {_not_allowed(who, forbidden)}", is_fault=True)
    if unclear:
        return FeedFinding(check, _not_proved(unclear, system.test_patient), is_fault=None)
    return FeedFinding(check, f"{who}; may read {', '.join(types)}", is_fault=False)


def _archive(system: System, connection: Connection) -> FeedFinding:
    """Ask an archive for a study that it doesn't have."""
    own = "dicomweb_auth" if system.archive_login else "auth"
    check, who = f"images {system.name}", _credential(system.dicomweb_login, own)
    try:
        if connection.archive:
            connection.archive.instances(_NO_STUDY)
    except EhrLoginFailed as error:
        says = f"{system.dicomweb_url}: {_not_accepted(error, system.dicomweb_login, own)}"
        return FeedFinding(check, says, is_fault=True)
    except EhrRefused as error:
        if error.status == _FORBIDDEN:
            says = f"HTTP 403 from {system.dicomweb_url}: {_not_allowed(who, ['studies'])}"
            return FeedFinding(check, says, is_fault=True)
        says = f"{system.dicomweb_url} answers HTTP {error.status} to a search (QIDO-RS): "
        return FeedFinding(check, f"{says}is it the base of its DICOMweb services?", is_fault=True)
    except GatewayError as error:
        return FeedFinding(check, f"{system.dicomweb_url}: {with_remedy(error)}", is_fault=True)
    return FeedFinding(check, f"{system.dicomweb_url} answers; {who}", is_fault=False)


def _ask(client: FhirClient, resource_type: str, patient: str | None) -> None:
    question = _question(resource_type, patient)
    try:
        client.search(resource_type, [*question, ("_elements", "id")], max_pages=1)
    except EhrRefused as error:
        if error.status != _BAD_REQUEST:
            raise
        client.search(resource_type, question, max_pages=1)  # some refuse what they don't know


def _question(resource_type: str, patient: str | None) -> list[tuple[str, str]]:
    """Ask for one resource, of the made-up patient where there is one."""
    one = ("_count", "1")
    if patient is None:
        return [one]
    if resource_type == "Patient":
        return [("_id", patient.partition("/")[2]), one]
    return [("patient", patient), one]


def _credential(login: Login, key: str) -> str:
    """Name a credential by where it comes from, never by what it is."""
    if login.secret is None:
        return f"no credential (`{key}`)"
    what = "the token"
    if isinstance(login, BasicLogin):
        what = f"user {login.user}, the password"
    elif isinstance(login, TokenLogin):
        what = f"client {login.client_id}, the {'key' if login.is_asymmetric else 'secret'}"
    return f"{what} of {login.secret.reference} (`{key}`)"


def _not_accepted(error: EhrLoginFailed, login: Login, key: str) -> str:
    """Say what was not accepted, and where the right one belongs."""
    if login.secret is None:
        return f"{error.message} The site file names none: write one as `{key}`."
    if isinstance(login, TokenLogin):  # what refused it has said what is to be done
        return f"{error.message} Nadi asked as {_credential(login, key)}."
    is_variable = login.secret.reference.startswith("env:")
    mended = "put the right one there" + (", then restart Nadi" if is_variable else "")
    return f"{error.message} It was given {_credential(login, key)}: {mended}."


def _not_allowed(who: str, what: Sequence[str]) -> str:
    return (
        f"{who} may not read {', '.join(what)}. The administrator there has to give it that right "
        "(scope)."
    )


def _not_proved(unclear: Sequence[str], patient: str | None) -> str:
    says = f"not proved; a search is refused, or takes too long, of: {', '.join(unclear)}"
    more = "" if patient else "; name a `test_patient`, so that no more than hers is asked for"
    return says + more
