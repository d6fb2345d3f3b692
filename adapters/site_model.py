"""The shape of a site file: what `docs/site.schema.json` is generated from.

These models say what may be written; `adapters.site` turns a valid file into what the processes
use. An unknown key is an error: a misspelt consent rule must not be a rule that is not there.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from adapters.ehr_profile import ProfileName
from adapters.site_address import Address
from adapters.site_break_glass import BreakGlassEntry
from adapters.site_cds_hooks import CdsHooksEntry, RouteHooksEntry
from adapters.site_consent import AbdmEntry, ConsentSigners, Notices
from adapters.site_consent_terms import ConsentEntry
from adapters.site_hours import HoursEntry
from adapters.site_login import Auth, NoAuth
from adapters.site_oru import OruEntry
from adapters.site_patients import PatientsEntry
from adapters.site_ports import PeerTlsEntry
from adapters.site_privacy import PrivacyEntry
from adapters.site_receive import Receive
from adapters.site_retention import RetentionEntry
from adapters.site_revocation import RevocationEntry
from adapters.site_run import Priority, RateEntry, RunEntry
from adapters.site_words import Name, Part, PublicKey, Purpose
from adapters.site_write_back import WriteBackEntry
from adapters.witness.entries import VerifierKey, WitnessEntry
from gateway.core.model_register import BUILT_IN
from models.ceilings import Ceilings
from models.signature import Trust

SCHEMA_ID = "https://nadi.health/schema/site.schema.json"

ModelReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}@[0-9]+(\.[0-9]+){0,2}$")
]
Loinc = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}-[0-9]$")]
SearchParameterName = Annotated[
    str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{1,63}:[A-Za-z_][A-Za-z0-9_-]{0,63}$")
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


_PATIENT = r"^Patient/[A-Za-z0-9.-]{1,64}$"


class _SystemPart(Part):
    title: str = Field(
        "", max_length=80, description="How people call it, in reports to patients and others."
    )
    patients: PatientsEntry | None = Field(
        None,
        description="By which number what it sends, or gets, in other forms than FHIR names its "
        "patients.",
    )
    oru: OruEntry | None = Field(
        None, description="Where its results go as HL7 v2 messages; absent: nowhere."
    )


class FhirRestEntry(_SystemPart):
    """A system with a FHIR API, that sends events, receives results, or both."""

    kind: Literal["fhir-rest"] = Field(description="What it speaks: FHIR R4 over HTTP.")
    base_url: Address = Field(
        description="Its FHIR base. ${NAME} and ${NAME:-default} are read from the environment."
    )
    dicomweb_url: Address | None = Field(
        None,
        description="Base of its DICOMweb services (QIDO-RS and WADO-RS), from which the images "
        "of an ImagingStudy are fetched.",
    )
    dicomweb_auth: Auth | None = Field(
        None, description="How Nadi identifies itself to those; absent: as to its FHIR API."
    )
    auth: Auth = Field(NoAuth(kind="none"), description="How Nadi identifies itself to it.")
    tls: PeerTlsEntry | None = Field(
        None,
        description="The certificates of connections to it and its DICOMweb services; absent: "
        "the authorities of the web are trusted.",
    )
    receive: list[Receive] = Field(
        ["push"],
        description="How its events reach Nadi; `push`: it calls Nadi's API; else a listener.",
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=300,
        strict=False,
        description="Longest wait for an answer, in seconds; NADI_EHR_TIMEOUT_S when absent.",
    )
    test_patient: Annotated[str, StringConstraints(pattern=_PATIENT)] | None = Field(
        None,
        description="Patient/<id> of a made-up patient of this system, about whom Nadi may write: "
        "probes prove that what changes there arrives here.",
    )
    search_parameters: list[SearchParameterName] = Field(
        [],
        description="Search parameters of its own, beyond those of the standard, such as "
        "Observation:ward; any other that its listeners would search by is refused.",
    )
    rate: RateEntry | None = Field(
        None, description="How fast it may be asked and written to; absent: as fast as it answers."
    )
    profile: ProfileName | None = Field(
        None, description="What kind of EHR it is; absent: recognised by what it says of itself."
    )
    write_back: WriteBackEntry | None = Field(
        None, description="In which forms results may go into it; absent: in any that it takes."
    )


class Hl7v2Entry(_SystemPart):
    """A system without a FHIR API: it sends by a listener, and may get results by HL7 v2."""

    kind: Literal["hl7v2", "dicom", "folder"] = Field(
        description="What it speaks: HL7 v2, DICOM; `folder`: it puts FHIR files into a folder."
    )
    receive: list[Receive] = Field([], description="The listeners by which its events reach Nadi.")
    write_back: WriteBackEntry | None = Field(
        None, description="In which forms results may go into it; absent: in any that it takes."
    )


SystemEntry = Annotated[FhirRestEntry | Hl7v2Entry, Field(discriminator="kind")]


class ConsentRule(Part):
    """Which permission of the patient a route needs."""

    purpose: Purpose = Field(description="v3-ActReason code that the patient's consent must cover.")
    default: Literal["deny", "permit"] = Field(
        "deny", description="What holds when no consent on record applies."
    )


class SinkRule(Part):
    """Where a route's results go."""

    system: Name = Field(description="One of `systems`.")
    also: list[Literal["provenance"]] = Field(
        [], description="What is written besides the Observation."
    )
    refusals: Literal["none", "observation"] = Field(
        "none", description="`observation`: a refusal is written too, with its dataAbsentReason."
    )
    write_back: WriteBackEntry | None = Field(
        None, description="As that of the system; what a route says itself, wins."
    )


class RouteEntry(Part):
    """What triggers which model, under which consent, into which system."""

    source: Name = Field(description="The system, of `systems`, whose events it looks at.")
    match: Text = Field(
        description="FHIRPath on the received resource; anything but nothing or false matches."
    )
    consent: ConsentRule
    model: ModelReference = Field(description="name@version of an installed model.")
    sink: SinkRule
    explain: bool = Field(
        False,
        description="Whether each result says what moved it: many runs of the model, not one.",
    )
    priority: Priority = Field(
        "routine", description="The lane of what states no more urgent one itself or by its order."
    )
    cds_hooks: RouteHooksEntry | None = Field(
        None, description="At which hooks of an EHR it answers by a card; absent: at none."
    )
    run: RunEntry | None = Field(
        None, description="When its jobs may start, for heavy models; absent: at any time."
    )


class LocalCode(Part):
    """One code of the hospital's own and what it means in LOINC."""

    system: str = Field(
        "", max_length=255, description="URI of the local code system; empty: code without system."
    )
    code: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    loinc: Loinc


class CodeMap(Part):
    """Local codes, written here or in a CSV file beside this one."""

    csv: str | None = Field(
        None,
        min_length=1,
        description="File with columns system, code, loinc. Read when the site file is applied.",
    )
    map: list[LocalCode] = Field([], description="The same, written out.")


def _check_signer(name: str) -> str:
    if name == BUILT_IN:
        raise ValueError(f"'{BUILT_IN}' is the name of what comes with Nadi; choose another")
    return name


class SignerEntry(Part):
    """Somebody whose model packages are taken."""

    name: Annotated[Name, AfterValidator(_check_signer)] = Field(
        description="What the register calls the signer."
    )
    key: PublicKey = Field(
        description="The signer's public key, as `nadi models key new` prints it."
    )


_AtMost = Ceilings()


class ModelLimits(Part):
    """The most that the gate of an imported model may allow; Nadi's own limits are the highest."""

    max_loss: float = Field(
        _AtMost.max_loss, gt=0, le=_AtMost.max_loss, description="Of `gate.max_loss`."
    )
    max_subgroup_loss: float = Field(
        _AtMost.max_subgroup_loss,
        gt=0,
        le=_AtMost.max_subgroup_loss,
        description="Of `gate.max_subgroup_loss`.",
    )
    max_flips: float = Field(
        _AtMost.max_flips, ge=0, le=_AtMost.max_flips, description="Of `gate.max_flips`."
    )
    tolerance: float = Field(
        _AtMost.tolerance,
        gt=0,
        le=_AtMost.tolerance,
        description="Of `weights.tolerance`, as a share of the output's range.",
    )


class ModelRules(Part):
    """Whose model packages are taken, and what they may contain."""

    signers: list[SignerEntry] = Field([], description="Whose packages may be imported.")
    allow_operator_domains: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        [], description="Domains of operators beyond the runtime's own that a network may use."
    )
    limits: ModelLimits | None = Field(
        None, description="The most that a model's gate may allow; absent: Nadi's own limits."
    )

    @field_validator("signers")
    @classmethod
    def _keys_differ(cls, signers: list[SignerEntry]) -> list[SignerEntry]:
        if len({each.key for each in signers}) < len(signers):
            raise ValueError("a key stands there twice")
        return signers

    def trust(self) -> Trust:
        """Give what is trusted of a package."""
        signers = {signer.key: signer.name for signer in self.signers}
        domains = frozenset(self.allow_operator_domains)
        if self.limits is None:
            return Trust(signers, domains)
        return Trust(signers, domains, Ceilings(**self.limits.model_dump(), whose="the site's"))


class SiteFile(Part):
    """A site: its systems, routes and local codes, whose models it takes, who watches its log."""

    site: Name = Field(description="Name of the site.")
    systems: dict[Name, SystemEntry] = Field(min_length=1)
    routes: dict[Name, RouteEntry] = Field({})
    codes: CodeMap = Field(CodeMap(csv=None, map=[]), description="Local codes and their LOINC.")
    models: ModelRules = Field(
        ModelRules(signers=[], allow_operator_domains=[], limits=None),
        description="Whose model packages may be imported.",
    )
    witnesses: dict[Name, WitnessEntry] = Field(
        {}, description="Where checkpoints of the audit log go, away from this machine."
    )
    notices: Notices = Field(
        {}, description="The notices that patients are given, by version; staff record which one."
    )
    consent_signers: ConsentSigners = Field(
        {}, description="Whose consent documents may be imported: name and public key."
    )
    abdm: AbdmEntry | None = Field(
        None, description="How ABDM consent artefacts are taken; absent: they permit nothing."
    )
    witness_for: list[VerifierKey] = Field(
        [], description="Logs whose checkpoints this gateway keeps: lines of their keys/audit.pub."
    )
    break_glass: BreakGlassEntry | None = Field(
        None, description="Who may break the glass in an emergency; absent: nobody."
    )
    consent: ConsentEntry | None = Field(
        None, description="How the routes ask the patients' consents, and what holds without one."
    )
    revocation: RevocationEntry = Field(
        RevocationEntry(delivered="keep"),
        description="What becomes of written results when consent is withdrawn.",
    )
    cds_hooks: CdsHooksEntry | None = Field(
        None, description="Who may ask by CDS Hooks; absent: nobody."
    )
    hours: HoursEntry | None = Field(None, description="When the hospital works.")
    privacy: PrivacyEntry | None = Field(
        None, description="Who answers for the processing of personal data, and is turned to."
    )
    retention: RetentionEntry | None = Field(
        None,
        description="How long what is held is kept; absent: nothing is removed when its time is "
        "over.",
    )


def site_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a site file, as published in docs and by the API."""
    schema = SiteFile.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return {**head, **schema, "title": "Nadi site file"}
