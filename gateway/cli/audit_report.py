"""`nadi audit report`: a patient's own report, to be handed to her; its making is on record."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.api.patient_report import QUERY, Patient, gather
from gateway.cli.audit_questions import Patient as Reference
from gateway.cli.audit_search import System
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    print_json,
)
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search
from gateway.core.errors import StoreUnavailable
from gateway.core.patient_report import PatientReport, as_html
from gateway.core.patient_report import as_json as as_json_value


@explained
def report(
    reference: Reference,
    *,
    html: Annotated[Path | None, typer.Option("--html", help="File for the page.")] = None,
    pdf: Annotated[Path | None, typer.Option("--pdf", help="File for the PDF.")] = None,
    system: System = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """A patient's own report, in plain words: what was done with her data, and what she can do."""
    if html is None and pdf is None and not as_json:
        fail("Say where to write it: --html FILE, --pdf FILE, or --json.", code=EXIT_USAGE)
    with opened_by_officer(data_dir) as nadi:
        known = patient_of(nadi, reference, system)
        patient = Patient(f"Patient/{reference.rpartition('/')[2]}", known.key)
        made = _made(nadi, patient)
    if html is not None:
        _write(html, as_html(made).encode())
    if pdf is not None:
        from gateway.api.patient_report_pdf import as_pdf  # noqa: PLC0415 - it brings fonts along

        _write(pdf, as_pdf(made))
    if as_json:
        print_json(as_json_value(made))


def _made(nadi: Opened, patient: Patient) -> PatientReport:
    """Make the report; that it was asked for is on record, also of nobody who was ever here."""
    try:
        with nadi.store.read() as uow:
            return gather(uow, nadi.site(), patient)
    finally:
        with nadi.store.write() as uow:
            record_search(uow, nadi.source(), patient.key, f"{QUERY}?patient-key={patient.key}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.touch(mode=0o600)
        path.write_bytes(content)
    except OSError as error:
        raise StoreUnavailable(f"{path} can't be written: {error.strerror}.") from error
    err.print(f"[green]✓[/] {path}: hand it to nobody but the patient, or whom she named.")
