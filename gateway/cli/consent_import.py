"""`nadi consent import`, `export` and `sign`: consents that come from elsewhere, and go there.

A file is taken only with a detached signature beside it (FILE.jws) by a key that the site file
lists. The signer vouches for the file: that an ABDM artefact came from the consent manager. Signing
takes the signer's private key and no credential, since it is done where no installation may be;
importing takes a credential, whoever signed.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from adapters.site import Site
from gateway.cli.consent_after import (
    AfterImport,
    after_import,
    show_after_import,
    warn_of_strangers,
)
from gateway.cli.consent_stop import settled, show_stopped
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    fail,
    out,
    print_json,
    table,
)
from gateway.cli.officer import opened_by_officer, opened_for_consents
from gateway.cli.patients import patient_of, record_search
from gateway.core.consent.abdm_artefact import patient_address, read_notification
from gateway.core.consent.importing import EXPORT, Document, documents_in
from gateway.core.consent.statement import StatementForged, insist_on, sign
from gateway.core.errors import ConfigurationError, Erased
from gateway.core.principal import Permission
from gateway.private_file import write_private
from gateway.store import consenting
from gateway.store.consent_acts import StoredConsent
from gateway.store.consenting import Owner, PatientMismatch, Signed, Taken
from gateway.store.unit_of_work import UnitOfWork
from gateway.withdrawal import withdraw
from models.signature import KeyUnusable, public_key, read_key, written_key

_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Wanted:
    """For whom a file is imported, as the command line says."""

    patient: str | None
    system: str | None
    is_checked: bool


def import_file(  # noqa: PLR0913 - each is an option of the command line
    file: Annotated[Path, typer.Argument(help="ABDM artefact, FHIR Consent or Bundle, or export.")],
    *,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Whom an ABDM artefact is about: Patient/<id>.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="Whose patients, if not clear.")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="Detached JWS.", show_default="FILE.jws")
    ] = None,
    identity_checked: Annotated[
        bool,
        typer.Option("--identity-checked", help="You made sure yourself whose ABHA address it is."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Import consents; each is kept exactly as it was received."""
    raw = _read(file)
    jws = _signature_of(file, signature)
    wanted = _Wanted(patient, system, identity_checked)
    with opened_for_consents(data_dir) as (nadi, actor):
        site = nadi.site()
        signed = _signed(site, raw, jws)
        documents = documents_in(raw)
        with nadi.store.write() as uow:
            found = [
                (each, consenting.take(uow, each, _owner(nadi, uow, each, wanted), signed, actor))
                for each in documents
            ]
            whose = _whose(uow, [taken for _, taken in found if taken.is_new])
            stopped = len(withdraw(uow, site, actor.source, whose))
        about = ", ".join(taken.consent_id for _, taken in found)
        stopped += settled(nadi, actor.source, whose, about=about)
        with nadi.store.read() as uow:
            told = after_import(uow, site, _whose(uow, [taken for _, taken in found]))
    warn_of_strangers(told)
    _show(found, signed, stopped, told, as_json=as_json)


def _signature_of(file: Path, signature: Path | None) -> str:
    """Read the detached signature of a file."""
    beside = signature or file.with_name(f"{file.name}.jws")
    if not beside.exists():
        fail(
            f"There is no signature {beside}. Who vouches for the file makes it: "
            f"`nadi consent sign {file} --key KEY`; --signature names another.",
            code=EXIT_USAGE,
        )
    return _read(beside).decode("ascii", "replace").strip()


def _whose(uow: UnitOfWork, taken: list[Taken]) -> dict[str, str]:
    """Give reference by key of the patients that consents are about."""
    consents = [uow.consent_acts.get(each.consent_id) for each in taken]
    found = (consenting.whose(uow, each) for each in consents if each)
    return {key: reference for each in found for key, reference in each.items()}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        fail(f"{path} can't be read: {error.strerror}.", code=EXIT_USAGE)
    if len(content) > _MOST_BYTES:
        fail(f"{path} is larger than {_MOST_BYTES // 2**20} MiB.", code=EXIT_USAGE)
    return content


def _signed(site: Site, raw: bytes, jws: str) -> Signed:
    """Find whose signature it is, of those that the site takes."""
    for name, key in site.consent_signers.items():
        try:
            insist_on(raw, jws, public_key(key))
        except StatementForged:
            continue
        return Signed(signer=name, key=key, signature=jws, sha256=hashlib.sha256(raw).hexdigest())
    known = ", ".join(site.consent_signers) or "none"
    raise StatementForged(
        "The signature is not one of this file by a signer of the site file "
        f"(consent_signers: {known}). The signer makes it with `nadi consent sign`."
    )


# -- whom it is about ------------------------------------------------------------------------


def _owner(nadi: Opened, uow: UnitOfWork, document: Document, wanted: _Wanted) -> Owner | None:
    if document.form == "abdm":
        return _owner_of_artefact(nadi, uow, document, wanted)
    if document.patient is None:
        raise PatientMismatch("A Consent in the file names no patient as Patient/<id>.")
    asked = wanted.patient and f"Patient/{wanted.patient.rpartition('/')[2]}"
    if asked and asked != document.patient:
        raise PatientMismatch
    return _known(nadi, document.patient, wanted.system, "as the document names the patient")


def _known(nadi: Opened, reference: str, system: str | None, identified: str) -> Owner:
    known = patient_of(nadi, reference, system)
    whole = f"Patient/{reference.rpartition('/')[2]}"
    return Owner(system=known.system, reference=whole, key=known.key, identified=identified)


def _owner_of_artefact(
    nadi: Opened, uow: UnitOfWork, document: Document, wanted: _Wanted
) -> Owner | None:
    detail = read_notification(document.content).detail
    if detail is None:
        # The end of an artefact; it finds its patient by the artefact, if that was ever here.
        return None
    if wanted.patient is None:
        fail("Say with --patient whom the ABDM artefact is about.", code=EXIT_USAGE)
    owner = _known(nadi, wanted.patient, wanted.system, "")
    address = patient_address(detail)
    addresses = _addresses(nadi.site(), uow, owner)
    if address is not None and address in addresses:
        how = "by the ABHA address of the Patient on record"
    elif addresses or address is None or not wanted.is_checked:
        raise PatientMismatch(
            "The ABHA address of the artefact is not that of the Patient on record. If none is "
            "on record and you made sure yourself, say so with --identity-checked."
        )
    else:
        how = "checked by staff"
    return Owner(system=owner.system, reference=owner.reference, key=owner.key, identified=how)


def _addresses(site: Site, uow: UnitOfWork, owner: Owner) -> frozenset[str]:
    """Give the ABHA addresses of a Patient on record."""
    if site.abdm is None:
        raise ConfigurationError("The site file takes no ABDM artefacts: give it the key `abdm`.")
    found = consenting.patient_resource(uow, owner.system, owner.reference) or {}
    values = (
        str(each.get("value", "")).lower()
        for each in found.get("identifier") or ()
        if each.get("system") in site.abdm.address_systems
    )
    return frozenset(value for value in values if "@" in value)


def _show(
    found: list[tuple[Document, Taken]],
    signed: Signed,
    stopped: int,
    told: list[AfterImport],
    *,
    as_json: bool,
) -> None:
    lines = [
        {"id": taken.consent_id, "form": document.form, "new": taken.is_new}
        for document, taken in found
    ]
    if as_json:
        patients = [asdict(each) for each in told]
        shown = {"signer": signed.signer, "consents": lines, "stopped": stopped}
        print_json({**shown, "patients": patients})
        return
    listing = table("ID", "FORM", "NEW")
    for line in lines:
        listing.add_row(str(line["id"]), str(line["form"]), "yes" if line["new"] else "known")
    out.print(f"Signed by {escape(signed.signer)}.")
    out.print(listing)
    show_stopped(stopped)
    show_after_import(told)


# -- out of here -----------------------------------------------------------------------------


def sign_file(
    file: Annotated[Path, typer.Argument(help="The file to vouch for.")],
    key: Annotated[
        Path, typer.Option("--key", help="Private key, as `nadi models key new` makes.")
    ],
) -> None:
    """Sign a file of consents: writes FILE.jws beside it."""
    try:
        private = read_key(key)
    except KeyUnusable as error:
        fail(f"{error}.")
    beside = file.with_name(f"{file.name}.jws")
    _write(beside, sign(_read(file), private).encode())
    out.print(
        f"[green]✓[/] {escape(str(beside))}: give it along with the file. A site takes both when "
        f"`consent_signers` names {written_key(private.public_key())}.",
        soft_wrap=True,
    )


def export(
    file: Annotated[Path, typer.Argument(help="New file; its signature comes beside it.")],
    patient: Annotated[
        str | None, typer.Option("--patient", help="Of this patient only: Patient/<id>.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="With --patient: whose patient.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Write the consents that staff recorded and that hold, for another site to import."""
    with opened_by_officer(data_dir, Permission.READ_CONSENT) as nadi:
        only = patient_of(nadi, patient, system).key if patient else None
        with nadi.store.read() as uow:
            found = uow.consent_acts.of([only]) if only else list(uow.consent_acts.every())
            exported = [_exported(uow, each) for each in found if _is_exported(each)]
        consents = [line for line, _ in filter(None, exported)]
        whose = {key for _, key in filter(None, exported)}
        # On record before anything is out of the house.
        with nadi.store.write() as uow:
            for key in sorted(whose):
                record_search(uow, nadi.source(), key, f"Consent/$export?patient={key}")
        content = orjson.dumps({"format": EXPORT, "consents": consents}, option=orjson.OPT_INDENT_2)
        _write(file, content)
        _write(file.with_name(f"{file.name}.jws"), sign(content, nadi.keys.consents).encode())
    out.print(f"[green]✓[/] {len(consents)} consents. Another site lists the key in consent.pub.")


def _is_exported(consent: StoredConsent) -> bool:
    return consent.form == "local" and all(row.act == "record" for row in consent.rows)


def _exported(uow: UnitOfWork, consent: StoredConsent) -> tuple[dict[str, object], str] | None:
    """Give what is exported of a consent and whose it is; None of a patient who was erased."""
    try:
        (act,) = uow.consent_acts.open(consent)
    except Erased:
        return None
    return {"id": consent.id, "local": act.statement["local"]}, str(consent.patient_key)


def _write(path: Path, content: bytes) -> None:
    """Write a new file that nobody else may read: it may name patients."""
    try:
        write_private(path, content)
    except OSError as error:
        fail(f"{path} can't be written: {error.strerror}.")
