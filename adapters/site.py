"""A site: YAML becomes systems, routes with compiled triggers, and a map of local codes.

The file is checked as a whole: every problem is reported with file, line and key, not only the
first. Secrets never stand in it; `Secret` says where one is and reads it when it is used.

Source: docs/site-yaml.md.
"""

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from zoneinfo import ZoneInfo

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from adapters.authorization import NO_LOGIN, Login, Secret
from adapters.site_address import completed
from adapters.site_break_glass import BreakGlassEntry
from adapters.site_cds_hooks import CdsHooks, cds_hooks_of
from adapters.site_codes import csv_codes
from adapters.site_consent import AbdmEntry, languages
from adapters.site_feeds import Feed, feeds_of
from adapters.site_login import Auth, login_of
from adapters.site_model import (
    FhirRestEntry,
    LocalCode,
    RouteEntry,
    SiteFile,
    SystemEntry,
    site_schema,
)
from adapters.site_oru import OruDestination, oru_of
from adapters.site_problems import validated
from adapters.site_push import PushEntry
from adapters.site_receive import pushed_in
from adapters.site_trigger import Trigger
from adapters.site_yaml import SiteInvalid, read_yaml
from adapters.witness.entries import WitnessEntry
from gateway.core.canary import CANARY_SYSTEM, canary_route, canary_routes, split_name
from gateway.core.consent import PLAIN, ConsentTerms
from gateway.core.consent.abdm import AbdmPolicy
from gateway.core.errors import ConfigurationError
from gateway.core.ladder import Terms
from gateway.core.lanes import LANES
from gateway.core.privacy import Privacy
from gateway.core.retention import Retention
from gateway.core.routing import BROKEN, Route, broken, leading_type
from gateway.core.working_hours import WorkingHours
from models.signature import Trust

if TYPE_CHECKING:
    from adapters.site_rows import SiteStore

__all__ = [
    "LOOK_EVERY_S",
    "Secret",
    "Site",
    "SiteInvalid",
    "SiteWatch",
    "System",
    "load_site",
    "name_of",
    "self_contained",
    "site_schema",
]

LOOK_EVERY_S = 1.0
"""How often a process looks whether another site was applied, in seconds."""

_LOINC = "http://loinc.org"


@dataclass(frozen=True, kw_only=True)
class System:
    """A system that sends events or receives results.

    Attributes:
        address: FHIR base as written, with `${NAME:-default}`; None when it has no FHIR API.
        dicomweb_address: Base of its DICOMweb services, as written; None when it has none.
        archive_login: How Nadi identifies itself to those, where it is not as to its FHIR API.
        login: How Nadi identifies itself.
        timeout_s: Longest wait in seconds; None leaves it to the settings.
        title: How people call it; empty where the file does not say.
        per_second: Most requests a second; None lets it be asked as fast as it answers.
        feeds: The listeners that take what it sends.
        push: How it calls Nadi's API; None where it does not.
        profile: What kind of EHR it is; None leaves it to what it says of itself.
        terms: In which forms results may go into it.
        test_patient: A made-up patient about whom may be written; None where there is none.
        oru: Where its results go as HL7 v2 messages; None where they don't.
        tls: Files of authorities and of our own certificate; None trusts those of the web.
    """

    name: str
    kind: Literal["fhir-rest", "hl7v2", "dicom", "folder"]
    address: str | None
    dicomweb_address: str | None = None
    archive_login: Login | None = None
    login: Login = NO_LOGIN
    timeout_s: float | None = None
    title: str = ""
    per_second: float | None = None
    feeds: tuple[Feed, ...] = ()
    push: PushEntry | None = None
    profile: str | None = None
    terms: Terms = field(default_factory=Terms)
    test_patient: str | None = None
    oru: OruDestination | None = None
    tls: tuple[str, str | None] | None = None

    @property
    def dicomweb_login(self) -> Login:
        """How Nadi identifies itself to its DICOMweb services."""
        return self.archive_login or self.login

    @property
    def base_url(self) -> str:
        """The FHIR base, without a slash at its end.

        Raises:
            ConfigurationError: A variable without default is not set, or it has no FHIR API.
        """
        if self.address is None:
            raise ConfigurationError(f"System '{self.name}' has no FHIR API.")
        return completed(self.address, f"System '{self.name}'")

    @property
    def dicomweb_url(self) -> str | None:
        """The base of its DICOMweb services, without a slash at its end.

        Raises:
            ConfigurationError: A variable without default is not set.
        """
        address = self.dicomweb_address
        return completed(address, f"System '{self.name}'") if address else None


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a site file says, ready for use.

    Attributes:
        version: Version under which it was applied; 0 when it was only read from a file.
        local_codes: (system, code) as the hospital writes it -> (system, code) in LOINC.
        trust: Whose model packages are taken.
        witnesses: Where checkpoints of the audit log go.
        witness_for: Verifier keys of the logs whose checkpoints are kept here.
        hours: When the hospital works; None when the file does not say.
        notices: Version of each notice in force to its languages.
        consent_signers: Whose consent documents may be imported, name to public key.
        abdm: How ABDM artefacts are taken; None where they are not.
        consent: How its routes ask the patients' consents.
        retention: How long what is held is kept.
        privacy: Who answers for the processing; None when the file does not say.
        break_glass: Who may break the glass; None when nobody may.
        retracts: Whether results in an EHR are marked when consent is withdrawn.
    """

    name: str = ""
    version: int = 0
    systems: Mapping[str, System] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    local_codes: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    witnesses: Mapping[str, WitnessEntry] = field(default_factory=dict)
    witness_for: tuple[str, ...] = ()
    hours: WorkingHours | None = None
    notices: Mapping[str, frozenset[str]] = field(default_factory=dict)
    consent_signers: Mapping[str, str] = field(default_factory=dict)
    abdm: AbdmEntry | None = None
    consent: ConsentTerms = PLAIN
    retention: Retention = field(default_factory=Retention)
    privacy: Privacy | None = None
    break_glass: BreakGlassEntry | None = None
    retracts: bool = False
    cds: CdsHooks = field(default_factory=CdsHooks)

    @cached_property
    def abdm_policy(self) -> AbdmPolicy | None:
        """How decisions take ABDM artefacts; None where they permit nothing."""
        return self.abdm.policy() if self.abdm else None

    def called(self, system: str) -> str:
        """Give a system's title, or its name where it has none."""
        known = self.systems.get(system)
        return (known.title if known else "") or system

    def route(self, name: str) -> Route | None:
        """Give a route by its name, or as it is run for the canary or when the glass is broken."""
        hers = split_name(name)
        plain = hers[0] if hers else name.removesuffix(BROKEN)
        found = next((route for route in self.routes if route.name == plain), None)
        if found is None or plain == name:
            return found
        if hers:
            return canary_route(found, hers[1])
        return broken(found) if self.break_glass else None

    @cached_property
    def canary_routes(self) -> tuple[Route, ...]:
        """The canary's routes, one for each of the site's."""
        return canary_routes(self.routes)

    def routes_for(self, system: str) -> tuple[Route, ...]:
        """Give the routes that what a system sends may trigger."""
        return self.canary_routes if system == CANARY_SYSTEM else self.routes

    @cached_property
    def feeds(self) -> Mapping[str, Feed]:
        """The listeners of all systems, by name."""
        return {feed.name: feed for system in self.systems.values() for feed in system.feeds}

    @cached_property
    def of_patients(self) -> tuple[str, ...]:
        """The systems that have patients of their own, in the order of their names."""
        speaking = {f.system for f in self.feeds.values() if f.speaks_for != f.system}
        known = self.systems.values()
        speaking |= {each.name for each in known if each.oru and each.oru.patients_of != each.name}
        return tuple(sorted(name for name in self.systems if name not in speaking))

    def system(self, name: str) -> System | None:
        """Give a system by its name."""
        return self.systems.get(name)


def load_site(
    text: str,
    *,
    source: str = "site.yaml",
    folder: Path | None = None,
    version: int = 0,
    is_new: bool = False,
) -> Site:
    """Read a site file.

    Args:
        text: The YAML.
        source: Name for messages.
        folder: Where `codes.csv` is looked for; None refuses it (an applied file has it embedded).
        version: Version under which it was applied.
        is_new: Also refuse what can't work, but would not keep an applied file from its work.

    Raises:
        SiteInvalid: It has problems; all of them are named.
    """
    document = read_yaml(text, source)
    file, problems = validated(document, is_new=is_new)
    rows, row_problems = csv_codes(document, folder)
    problems = [*document.problems, *problems, *row_problems]
    if problems or file is None:
        raise SiteInvalid(problems)
    return _site(file, rows, version)


def self_contained(text: str, *, source: str = "site.yaml", folder: Path) -> str:
    """Put the rows of `codes.csv` into the file, so that what is applied is all there is.

    Comments and order are kept. A file without `codes.csv` comes back unchanged.

    Raises:
        SiteInvalid: The file or its CSV has problems.
    """
    load_site(text, source=source, folder=folder, is_new=True)
    rows, _ = csv_codes(read_yaml(text, source), folder)
    if not rows:
        return text
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    tree = yaml.load(text)
    codes = tree["codes"]
    del codes["csv"]
    # In quotes: a code may begin with what means something in YAML, such as a question mark.
    written = [
        {key: DoubleQuotedScalarString(value) for key, value in row.model_dump().items()}
        for row in rows
    ]
    codes["map"] = [*codes.get("map", []), *written]
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def sha256_of(text: str) -> str:
    """Give the SHA-256 of a site file, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


class SiteWatch:
    """Gives the site in force, looking at the database every `LOOK_EVERY_S` at most.

    Thread-safe. Triggers are compiled once per version. A version that can't be used (written by
    a newer Nadi) leaves the last usable one in force.
    """

    def __init__(
        self,
        store: object,
        *,
        every_s: float = LOOK_EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = cast("SiteStore", store)
        self._every_s = every_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen_version = 0
        self._site = Site()

    def current(self) -> Site:
        """Give the site in force; an empty one when none was ever applied.

        Raises:
            StoreUnavailable: The database is away and no site was read before.
            ConfigurationError: The applied site can't be used and there was none before.
        """
        if self._monotonic() - self._looked_at < self._every_s:
            return self._site
        with self._lock:
            if self._monotonic() - self._looked_at >= self._every_s:
                self._look()
                self._looked_at = self._monotonic()
        return self._site

    def _look(self) -> None:
        with self._store.read() as unit:
            if unit.sites.version() == self._seen_version:
                return
            row = unit.sites.current()
        if row is None:
            return
        try:
            self._site = load_site(
                row.yaml, source=f"site version {row.version}", version=row.version
            )
        except SiteInvalid:
            if self._seen_version == 0:
                raise
        self._seen_version = row.version


def _site(file: SiteFile, rows: list[LocalCode], version: int) -> Site:
    systems = {name: _system(name, entry, file.site) for name, entry in file.systems.items()}
    terms = file.consent.terms() if file.consent else PLAIN
    hours = file.hours.working() if file.hours else None
    zone = hours.zone if hours else None
    routes = tuple(_route(name, entry, terms, zone) for name, entry in file.routes.items())
    rows = [*file.codes.map, *rows]
    codes = {(row.system, row.code): (_LOINC, row.loinc) for row in rows}
    return Site(
        name=file.site,
        version=version,
        systems=systems,
        routes=routes,
        local_codes=codes,
        trust=file.models.trust(),
        witnesses=file.witnesses,
        witness_for=tuple(file.witness_for),
        break_glass=file.break_glass,
        retracts=file.revocation.retracts,
        hours=hours,
        notices=languages(file.notices),
        consent_signers=file.consent_signers,
        abdm=file.abdm,
        consent=terms,
        privacy=file.privacy.privacy() if file.privacy else None,
        retention=file.retention.retention() if file.retention else Retention(),
        cds=cds_hooks_of(file.cds_hooks, {n: each.cds_hooks for n, each in file.routes.items()}),
    )


def _system(name: str, entry: SystemEntry, site: str) -> System:
    made = System(
        name=name,
        kind=entry.kind,
        address=None,
        title=entry.title,
        feeds=tuple(feeds_of(name, entry.receive, entry.patients)),
        push=pushed_in(entry.receive),
        terms=entry.write_back.terms() if entry.write_back else Terms(),
        oru=oru_of(entry.oru, entry.patients, system=name, site=site),
    )
    if not isinstance(entry, FhirRestEntry):
        return made
    return replace(
        made,
        address=entry.base_url,
        dicomweb_address=entry.dicomweb_url,
        archive_login=_login(name, entry, entry.dicomweb_auth) if entry.dicomweb_auth else None,
        login=_login(name, entry, entry.auth),
        timeout_s=entry.timeout_s,
        per_second=entry.rate.per_second if entry.rate else None,
        profile=entry.profile,
        tls=entry.tls.files if entry.tls else None,
        test_patient=entry.test_patient,
    )


def _login(system: str, entry: FhirRestEntry, auth: Auth) -> Login:
    tls = entry.tls.files if entry.tls else None
    return login_of(auth, system=system, address=entry.base_url, tls=tls)


def _route(name: str, entry: RouteEntry, terms: ConsentTerms, zone: ZoneInfo | None) -> Route:
    stated = terms.implicit.get(entry.consent.purpose)
    return Route(
        name=name,
        source=entry.source,
        match=entry.match,
        resource_type=leading_type(entry.match),
        model=entry.model,
        purpose=entry.consent.purpose,
        consent_default=stated.default if stated else entry.consent.default,
        consent_terms=terms,
        sink=entry.sink.system,
        with_provenance="provenance" in entry.sink.also,
        report_refusals=entry.sink.refusals == "observation",
        terms=entry.sink.write_back.terms() if entry.sink.write_back else Terms(),
        explain=entry.explain,
        lane=LANES[entry.priority],
        window=entry.run.window(zone) if entry.run else None,
        trigger=Trigger(entry.match),
    )


def name_of(current: Callable[[], Site], default: str) -> str:
    """Give the name of the site in force; the default where there is none, or none that is usable.

    Args:
        current: Gives the site, as `SiteWatch.current` does.
        default: What to say instead.
    """
    try:
        return current().name or default
    except ConfigurationError:
        return default


def trigger_failures(site: Site) -> Iterator[tuple[str, int]]:
    """Give each route's name with how often its trigger could not be evaluated."""
    for route in site.routes:
        if isinstance(route.trigger, Trigger):
            yield route.name, route.trigger.failures
