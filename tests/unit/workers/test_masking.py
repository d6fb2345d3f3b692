"""Consents that speak of some data, some action, some actor or some time, through a job's life."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.site import Site, load_site
from gateway.core.jobs import BusinessStatus, JobState
from tests.conftest import shared_data
from tests.factories import ACT_REASON
from tests.hospital import (
    DIGEST,
    LOINC,
    NOW,
    SITE,
    UREA,
    Hospital,
    consent_of,
    observation,
    patient,
)
from tests.pcf import TERMINOLOGY, actors, but, labels

Json = dict[str, Any]

LABELLED = "\nconsent: {unlabelled_is_normal: true}\n"
TREAT = [{"system": ACT_REASON, "code": "TREAT"}]
ACTION = f"{TERMINOLOGY}/consentaction"


def site(consent: str = LABELLED) -> Site:
    return load_site(SITE.replace("REFUSALS", "observation") + consent, version=1)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, site=site())
    yield made
    made.close()


def consent(*exceptions: Json, **limits: Any) -> Json:
    """The patient agrees to treatment, within limits and with exceptions."""
    nested = {"provision": list(exceptions)} if exceptions else {}
    provision = {"type": "permit", "purpose": TREAT, **limits, **nested}
    return {**consent_of(), "provision": provision}


def labelled(resource: Json, *codes: str) -> Json:
    security = {"security": labels(*codes)} if codes else {}
    return {**resource, "meta": {**resource["meta"], **security}}


def urea(*codes: str, **changed: Any) -> Json:
    return labelled(observation(40, name="urea", code=UREA, **changed), *codes)


def run(hospital: Hospital, said: Json, *pushed: Json) -> Any:
    """Let the patient consent, push, and give the job after all workers had their turn."""
    hospital.push(patient(), said, *pushed)
    hospital.infer()
    hospital.deliver()
    return hospital.job()


def results(hospital: Hospital) -> list[Json]:
    return [each for each in hospital.ehr.results() if "valueQuantity" in each]


def test_a_consent_to_normal_data_lets_a_model_read_normal_data(hospital: Hospital):
    job = run(hospital, consent(securityLabel=labels("N")), observation())

    assert job.business_status == BusinessStatus.DELIVERED
    assert [each["basis"] for each in job.decisions] == ["consent"] * 3
    assert len(results(hospital)) == 1


def test_without_the_sites_word_what_nobody_labelled_is_not_taken_for_normal(tmp_path: Path):
    hospital = Hospital(tmp_path, site=site(""))

    job = run(hospital, consent(securityLabel=labels("N")), observation())
    hospital.close()

    assert job.business_status == BusinessStatus.CONSENT_DENIED


def test_the_triggering_resource_may_be_hidden_itself(hospital: Hospital):
    hidden = labelled(observation(), "R", "HIV")
    job = run(hospital, consent(securityLabel=labels("N")), hidden)

    assert (job.state, job.business_status) == (JobState.REJECTED, BusinessStatus.CONSENT_DENIED)
    assert "HIV" not in job.reason


def test_an_input_that_is_hidden_is_neither_read_nor_replaced(hospital: Hospital):
    said = consent(securityLabel=labels("N"))
    job = run(hospital, said, urea("R", "PSY"), observation())

    assert (job.state, job.business_status) == (JobState.REJECTED, BusinessStatus.MASKED)
    assert hospital.models.model.batches == []
    told = json.dumps([job.reason, job.decisions, hospital.ehr.results()])
    assert "PSY" not in told
    assert "urea" not in told.lower()


def test_an_older_value_does_not_stand_in_for_one_that_is_hidden(hospital: Hospital):
    older = {**urea(at=NOW - timedelta(hours=5)), "id": "older"}
    job = run(hospital, consent(securityLabel=labels("N")), older, urea("R"), observation())

    assert job.business_status == BusinessStatus.MASKED


def test_what_the_model_would_not_read_may_be_hidden(hospital: Hospital):
    too_old = urea("R", at=NOW - timedelta(days=40))
    of_other = labelled(observation(name="other", code="718-7"), "R")
    job = run(hospital, consent(securityLabel=labels("N")), too_old, of_other, observation())

    assert job.business_status == BusinessStatus.DELIVERED
    assert len(results(hospital)) == 1


def test_what_the_ehr_adds_is_asked_for_too(hospital: Hospital):
    hospital.ehr.put(urea("R"))
    job = run(hospital, consent(securityLabel=labels("N")), observation())

    assert job.business_status == BusinessStatus.MASKED


def test_what_the_ehr_adds_without_a_readable_label_is_not_read(hospital: Hospital):
    hospital.ehr.put({**urea(), "meta": {"security": ["N"]}})
    job = run(hospital, consent(securityLabel=labels("N")), observation())

    assert job.business_status == BusinessStatus.MASKED


def test_a_denial_of_a_code_hides_the_input_that_bears_it(hospital: Hospital):
    no_urea = but("deny", code=[{"coding": [{"system": LOINC, "code": UREA}]}])

    job = run(hospital, consent(no_urea), urea(), observation())

    assert job.business_status == BusinessStatus.MASKED


def test_a_denial_of_a_code_may_be_about_a_result_that_is_coded_in_another_system(
    hospital: Hospital,
):
    no_urea = but("deny", code=[{"coding": [{"system": LOINC, "code": UREA}]}])

    job = run(hospital, consent(no_urea), observation())

    assert len(hospital.models.model.batches) == 1
    assert job.business_status == BusinessStatus.CONSENT_WITHDRAWN


def test_data_of_a_time_that_is_not_agreed_to_is_not_read(hospital: Hospital):
    said = consent(dataPeriod={"start": "2026-11-23"})
    job = run(hospital, said, urea(at=NOW - timedelta(hours=24)), observation())

    assert job.business_status == BusinessStatus.MASKED


def test_a_consent_to_data_of_some_time_lets_a_model_know_how_old_the_patient_is(
    hospital: Hospital,
):
    said = consent(dataPeriod={"start": "2026-11-01", "end": "2026-11-30"})
    job = run(hospital, said, urea(at=NOW - timedelta(hours=24)), observation())

    assert job.business_status == BusinessStatus.DELIVERED, job.reason
    assert len(results(hospital)) == 1


def test_a_denial_of_data_of_some_time_may_be_about_who_the_patient_is(hospital: Hospital):
    said = consent(but("deny", dataPeriod={"end": "2020"}))
    job = run(hospital, said, observation())

    assert job.business_status == BusinessStatus.MASKED


def test_a_consent_that_arrives_while_the_job_waits_hides_the_trigger(hospital: Hospital):
    hospital.push(patient(), consent(), labelled(observation(), "R"))
    hospital.push({**consent(securityLabel=labels("N")), "meta": {"versionId": "2"}})
    hospital.infer()

    assert hospital.job().business_status == BusinessStatus.CONSENT_WITHDRAWN
    assert hospital.models.model.batches == []


def test_a_result_takes_over_the_labels_of_what_it_was_made_from(hospital: Hospital):
    run(hospital, consent(), urea("R", "PSY"), labelled(observation(), "N"))

    (result,) = results(hospital)
    codes = [each["code"] for each in result["meta"]["security"]]
    assert codes == ["AIAST", "R", "PSY"]
    (provenance,) = hospital.ehr.of("Provenance")
    assert [each["code"] for each in provenance["meta"]["security"]] == ["R", "PSY"]


def test_a_result_of_restricted_data_is_not_written_under_a_newer_consent_to_normal_data(
    hospital: Hospital,
):
    hospital.push(patient(), consent(), urea("R"), observation())
    hospital.infer()
    hospital.push({**consent(securityLabel=labels("N")), "meta": {"versionId": "2"}})
    hospital.deliver()

    assert hospital.job().business_status == BusinessStatus.CONSENT_WITHDRAWN
    assert hospital.ehr.results() == []


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        (("access", "use"), BusinessStatus.CONSENT_WITHDRAWN),
        (("access", "use", "disclose"), BusinessStatus.DELIVERED),
        (("disclose",), BusinessStatus.CONSENT_DENIED),
    ],
)
def test_to_read_and_to_write_back_are_two_actions(
    hospital: Hospital, codes: tuple[str, ...], status: BusinessStatus
):
    said = consent(action=[{"coding": [{"system": ACTION, "code": code}]} for code in codes])

    assert run(hospital, said, observation()).business_status == status


def test_a_consent_may_name_the_model_or_the_hospital(tmp_path: Path):
    named = "\nconsent: {actor: {organizations: [Organization/ours]}}\n"
    by_digest = {
        "role": actors("Device/x")[0]["role"],
        "reference": {
            "identifier": {"system": "https://nadi.health/fhir/sid/model-digest", "value": DIGEST}
        },
    }
    told = [
        (actors("Organization/ours"), BusinessStatus.DELIVERED),
        (actors("Organization/theirs"), BusinessStatus.CONSENT_DENIED),
        ([by_digest], BusinessStatus.DELIVERED),
    ]
    for number, (who, status) in enumerate(told):
        folder = tmp_path / str(number)
        folder.mkdir()
        hospital = Hospital(folder, site=site(named))
        assert run(hospital, consent(actor=who), observation()).business_status == status
        hospital.close()


def test_a_period_ends_while_the_job_waits(hospital: Hospital):
    hospital.push(patient(), consent(period={"end": "2026-11-23T07:00:00Z"}), observation())
    hospital.pass_time(3600)
    hospital.infer()

    assert hospital.job().business_status == BusinessStatus.CONSENT_WITHDRAWN


IMPLICIT = """
consent:
  implicit:
    TREAT: {decision: permit, basis: dpdp-7-public-health, evidence: "Order 12 of 2026"}
"""


def test_a_decision_names_the_basis_it_rests_on(tmp_path: Path):
    text = SITE.replace("REFUSALS", "none").replace(", default: deny", "") + IMPLICIT
    hospital = Hospital(tmp_path, site=load_site(text, version=1))
    hospital.push(patient(), observation())
    job = hospital.job()
    hospital.close()

    assert job.state is JobState.READY
    assert job.decisions[0]["basis"] == "dpdp-7-public-health"
    assert "Order 12 of 2026" in job.decisions[0]["reasons"][-1]


@pytest.mark.parametrize("stated", ["permit", "deny"])
def test_a_consent_that_leaves_its_rule_to_a_policy_is_taken_as_the_site_states_it(
    tmp_path: Path, stated: str
):
    terms = f"\nconsent: {{policies: {{'http://ehr.test/policies/1': {stated}}}}}\n"
    hospital = Hospital(tmp_path, site=site(terms))
    bare = {key: value for key, value in consent_of().items() if key != "policyRule"}
    said = {
        **bare,
        "policy": [{"uri": "http://ehr.test/policies/1"}],
        "provision": {"purpose": TREAT},
    }

    job = run(hospital, said, observation())
    hospital.close()

    expected = BusinessStatus.DELIVERED if stated == "permit" else BusinessStatus.CONSENT_DENIED
    assert job.business_status == expected


# -- the published examples ------------------------------------------------------------------


def published(name: str) -> Json:
    found: Json = json.loads((shared_data("ihe-pcf") / f"{name}.json").read_text("utf-8"))
    return found


def of_pcf(hospital: Hospital, name: str, *pushed: Json) -> Any:
    """Run a published Consent: its patient, its data and a creatinine that triggers the toy."""
    who = published("Patient-ex-patient")
    subject = {"reference": "Patient/ex-patient"}
    at = {"effectiveDateTime": "2026-11-23T05:00:00Z"}
    trigger = {**observation(of="ex-patient"), "subject": subject}
    hospital.push(who, published(f"Consent-ex-consent-{name}"))
    hospital.push(*[{**each, "subject": subject, **at} for each in pushed], trigger)
    hospital.infer()
    hospital.deliver()
    return hospital.job()


def as_urea(content: Json) -> Json:
    """Give a published Observation with its labels, as an input of the toy."""
    code = {"coding": [{"system": LOINC, "code": UREA}]}
    return {**urea(of="ex-patient"), "meta": content["meta"], "id": content["id"], "code": code}


def test_a_published_advanced_consent_hides_alcohol_use_and_leaves_the_rest(hospital: Hospital):
    alcohol = published("Observation-ex-alcoholUse")

    job = of_pcf(hospital, "advanced-normal", alcohol)

    assert job.business_status == BusinessStatus.DELIVERED
    (result,) = results(hospital)
    assert "ex-alcoholUse" not in json.dumps(result)


def test_a_published_advanced_consent_masks_an_input_that_is_restricted(hospital: Hospital):
    job = of_pcf(hospital, "advanced-normal", as_urea(published("Observation-ex-alcoholUse")))

    assert job.business_status == BusinessStatus.MASKED


def test_a_published_intermediate_consent_to_a_time_denies_what_is_newer(hospital: Hospital):
    job = of_pcf(hospital, "intermediate-timeframe")

    assert job.business_status == BusinessStatus.CONSENT_DENIED


def test_a_published_intermediate_consent_against_an_encounter_masks_what_was_found_in_it(
    hospital: Hospital,
):
    found = {**as_urea(published("Observation-ex-weight"))}
    found["encounter"] = {"reference": "Encounter/ex-encounter"}

    job = of_pcf(hospital, "intermediate-not-encounter", found)

    assert job.business_status == BusinessStatus.MASKED
