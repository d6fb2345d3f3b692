"""`nadi doctor` writes a probe about a made-up patient, says what was kept, and takes it back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.site import Site, load_site
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.doctor_remedies import remedy
from gateway.cli.doctor_write_back import write_findings
from gateway.core.audit import Source
from gateway.store.audit_log import AuditFilter
from tests.hospital import SITE, Hospital
from tests.receiving import receiving
from tests.sandbox import TOKEN, SandboxEhr
from tests.simulators import CONCEPT, SIMULATORS
from tests.unit.adapters.hl7v2.test_oru import PATIENT, TO

pytestmark = pytest.mark.integration

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def sandbox() -> Iterator[SandboxEhr]:
    running = SandboxEhr()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def site_of(sandbox: SandboxEhr, folder: Path, more: str = "") -> Site:
    token = folder / "token"
    token.write_text(TOKEN)
    ehr = f"""    base_url: {sandbox.origin}/fhir
    auth: {{kind: bearer, token: "file:{token}"}}
    test_patient: Patient/made-up
{more}"""
    text = SITE.replace("REFUSALS", "none").replace("    base_url: http://ehr.test/fhir\n", ehr)
    return load_site(text)


def found(hospital: Hospital, site: Site) -> list[FeedFinding]:
    return list(write_findings(site, hospital.store, Source("site", "cli"), lambda _: None))


def probes(sandbox: SandboxEhr) -> list[dict[str, Any]]:
    url = f"{sandbox.origin}/fhir/Observation?patient=Patient/made-up"
    entries = httpx.get(url, headers=HEADERS).json().get("entry", ())
    return [each["resource"] for each in entries]


def test_an_ehr_that_keeps_all_is_told_so_and_the_probe_is_an_error_at_once(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    (finding,) = found(hospital, site_of(sandbox, tmp_path))

    says = "a probe went as observation; what was looked at is there"
    assert finding == FeedFinding("writing ehr", says, is_fault=False)
    assert {each["status"] for each in probes(sandbox)} == {"entered-in-error"}
    with hospital.store.read() as uow:
        noted = [r for r in uow.audit_log.search(AuditFilter(limit=9)) if r.event == "note"]
    assert len(noted) == 1


def test_what_the_ehr_drops_is_told_before_the_first_real_result(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(drop_elements=["meta.security", "Observation.device"])
    (finding,) = found(hospital, site_of(sandbox, tmp_path))
    sandbox.faults(drop_elements=[])

    kept = "a probe went as observation; not kept: meta.security, device. That an AI made it can be"
    assert finding.says.startswith(kept)
    assert finding.is_fault is None


def test_what_an_ehr_that_calls_itself_hapi_drops_is_told_too(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(**SIMULATORS["hapi-that-drops-labels"].faults)

    (finding,) = found(hospital, site_of(sandbox, tmp_path))

    lost = "a probe went as observation; not kept: meta.security, identifier. That an AI made it"
    assert finding.says.startswith(lost)
    assert finding.is_fault is None


def test_a_probe_that_nobody_can_look_at_is_not_called_kept(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(no_reads=True)

    (finding,) = found(hospital, site_of(sandbox, tmp_path))

    assert finding == FeedFinding(
        "writing ehr",
        "a probe went as observation and could not be read back: nobody knows what is kept of a "
        "result; let Nadi's user read there; it could "
        "not be marked as entered in error: remove it by hand",
        is_fault=None,
    )


def test_an_ehr_that_takes_no_form_is_told(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    (finding,) = found(hospital, site_of(sandbox, tmp_path, "    profile: care\n"))

    assert finding.says.startswith("no form of a result is taken; they stay on the worklist")
    assert finding.is_fault is None


def test_every_concept_that_can_t_be_looked_up_is_tried_by_a_probe(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(known_codes=[CONCEPT])
    codes = f"""    profile: openmrs-fhir2
    write_back:
      codes:
        - {{of_code: known, code: {CONCEPT}, display: "AI: known"}}
        - {{of_code: unknown, code: no-such-concept, display: "AI: unknown"}}
"""

    _, _, known, unknown = found(hospital, site_of(sandbox, tmp_path, codes))

    assert (known.check, known.is_fault) == ("writing ehr as known", False)
    assert (unknown.check, unknown.is_fault) == ("writing ehr as unknown", None)
    assert "The EHR refused the form: HTTP 422" in unknown.says
    assert [each["code"]["coding"][0]["code"] for each in probes(sandbox)] == [CONCEPT]


def test_an_ehr_that_refuses_or_is_away_is_a_fault(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(known_codes=["no such code"])
    (refused,) = found(hospital, site_of(sandbox, tmp_path))
    sandbox.faults(known_codes=[], down="503")
    (away,) = found(hospital, site_of(sandbox, tmp_path))
    sandbox.faults(down="no")

    assert refused.says.startswith("the EHR refused the probe: HTTP 422. Look for the request in")
    assert away.says.startswith(
        "the probe could not be written: EhrOverloaded. Nothing needs to be"
    )
    assert refused.is_fault
    assert away.is_fault


def test_a_probe_that_can_t_be_taken_back_is_told(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    sandbox.faults(refused_statuses=["entered-in-error"])
    (finding,) = found(hospital, site_of(sandbox, tmp_path))
    sandbox.faults(refused_statuses=[])

    assert "it could not be marked as entered in error: remove it by hand" in finding.says


def test_without_a_made_up_patient_nothing_is_written(hospital: Hospital) -> None:
    assert found(hospital, hospital.site) == []


def test_a_receiver_of_hl7_v2_is_reached_and_the_probe_of_a_poor_ehr_goes_there_and_back(
    sandbox: SandboxEhr, hospital: Hospital, tmp_path: Path
) -> None:
    known = {**PATIENT, "id": "made-up"}
    httpx.put(f"{sandbox.origin}/fhir/Patient/made-up", headers=HEADERS, json=known)
    with receiving() as receiver:
        receives = f"""    profile: care
    patients: {{identifier: "{TO.numbers}"}}
    oru: {{host: 127.0.0.1, port: {receiver.port}, application: LIS, facility: HOSP}}
"""
        site = site_of(sandbox, tmp_path, receives)
        probe, reached = found(hospital, site)
    (away,) = found(hospital, site)[1:]

    assert probe.says == "a probe went as hl7v2-oru and was answered AA"
    assert probe.is_fault is False
    assert [each.first("OBX").text(11) for each in receiver.messages] == ["P", "W"]
    assert reached.check == "HL7 v2 to ehr"
    assert reached.says.startswith(f"127.0.0.1:{receiver.port} takes a connection")
    gone = f"127.0.0.1:{receiver.port} refuses the connection: does it run, and is the port right?"
    assert (away.is_fault, away.says) == (True, f"{gone} {remedy('NoAnswer')}")
