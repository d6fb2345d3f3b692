from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fhir import parse_bundle, parse_resource
from gateway.core.findings import Report, ResultContext, RuntimeFacts, device_urn, refusal
from gateway.core.write_back import (
    AS_OBSERVATION,
    CONTAINED_DEVICE,
    WITHOUT_MEDIA,
    StoredReport,
    attachments_of,
    provenance_of,
    transaction,
    with_device,
)
from models.manifest import parse
from tests.hospital import DIGEST, MANIFEST
from tests.result_models import RISK_ASSESSMENT, reports, with_map
from tests.result_models import made as made_by

RUNTIME = RuntimeFacts(model_digest=DIGEST, runtime="toy 1", kernel_class="none")
URN = device_urn(DIGEST)


def make(
    subject: str = "Patient/p1", reason: str = "None.", *, with_provenance: bool = True
) -> Report:
    context = ResultContext(
        identifier="r1",
        subject=subject,
        encounter=None,
        effective={"effectiveDateTime": "2026-11-20"},
        issued=datetime(2026, 11, 23, tzinfo=UTC),
        trigger="Observation/o1",
        with_provenance=with_provenance,
    )
    return refusal(
        parse(MANIFEST),
        reason=reason,
        sources=(),
        is_outside_use=False,
        context=context,
        runtime=RUNTIME,
    )


def entries(reports: list[Report], places: dict[str, str]) -> list[Any]:
    made = transaction([StoredReport.read(each.to_json()) for each in reports], places)
    found: list[Any] = orjson.loads(made.body)["entry"]
    assert len(found) == made.size
    return found


@given(st.text(), st.text(), st.booleans())
def test_a_stored_report_opens_as_it_was_written(
    subject: str, reason: str, with_provenance: bool
) -> None:
    report = make(subject, reason, with_provenance=with_provenance)

    stored = StoredReport.read(report.to_json())

    assert stored.opened() == report
    assert (stored.identifier, stored.digest) == ("r1", DIGEST)


# What an EHR wrote may look like our own reference to the Device, or like a piece of JSON.
_ODD = st.sampled_from([URN, f'"reference":"{URN}"', f'{{"reference":"{URN}"', "\\", '"', ""])


@given(st.lists(_ODD).map("".join), st.lists(_ODD).map("".join), st.booleans())
def test_a_report_placed_as_bytes_is_what_the_opened_one_is(
    subject: str, reason: str, with_provenance: bool
) -> None:
    report = make(subject, reason, with_provenance=with_provenance)

    placed = StoredReport.read(report.to_json()).placed("Device/7")

    assert placed.opened() == with_device(report, "Device/7")


def test_a_device_that_the_ehr_does_not_take_is_put_into_the_observation() -> None:
    report = make()

    placed = StoredReport.read(report.to_json()).placed(CONTAINED_DEVICE)

    assert placed.opened() == with_device(report, CONTAINED_DEVICE)


@pytest.mark.parametrize("places", [{}, {DIGEST: "Device/7"}])
def test_a_transaction_holds_device_results_and_provenances_in_this_order(
    places: dict[str, str],
) -> None:
    found = entries([make(), make(with_provenance=False)], places)

    kinds = [each["resource"]["resourceType"] for each in found]
    assert kinds == [*([] if places else ["Device"]), "Observation", "Observation", "Provenance"]
    device = places.get(DIGEST, URN)
    assert found[-2]["resource"]["device"] == {"reference": device}
    assert found[-1]["resource"]["agent"][0]["who"]["reference"] == device
    assert [each["request"]["url"] for each in found] == kinds


def test_a_body_of_the_time_before_risk_assessments_is_still_read() -> None:
    observation = {"resourceType": "Observation", "identifier": [{"system": "s", "value": "r1"}]}
    device = {"resourceType": "Device", "identifier": [{"system": "s", "value": DIGEST}]}
    body = orjson.dumps([observation, device, None])

    stored = StoredReport.read(body)

    assert (stored.identifier, stored.digest, stored.resource_type) == ("r1", DIGEST, "Observation")
    assert stored.opened() == Report(observation, device, None) == Report.from_json(body)


def test_a_plain_observation_is_kept_as_it_always_was() -> None:
    assert len(orjson.loads(make().to_json())) == 3


@pytest.mark.parametrize("name", sorted(reports()))
@pytest.mark.parametrize("place", ["Device/7", CONTAINED_DEVICE])
def test_every_kind_of_report_is_placed_as_bytes_as_it_is_opened(name: str, place: str) -> None:
    report = reports()[name]

    placed = StoredReport.read(report.to_json()).placed(place)

    assert placed.opened() == with_device(report, place)
    for resource in (placed.opened().result, *placed.opened().attachments):
        parse_resource(orjson.dumps(resource))


def test_a_risk_assessment_and_a_map_stand_in_a_valid_transaction_under_their_types() -> None:
    found = entries([made_by(RISK_ASSESSMENT, 0.7), with_map()], {})

    kinds = [each["resource"]["resourceType"] for each in found]
    assert kinds == [
        "Device",
        "RiskAssessment",
        "Observation",
        "Media",
        "Provenance",
        "Provenance",
    ]
    assert [each["request"]["url"] for each in found] == kinds
    assert found[1]["resource"]["performer"] == {"reference": found[0]["fullUrl"]}
    assert found[3]["resource"]["partOf"] == [{"reference": found[2]["fullUrl"]}]
    assert found[3]["request"]["ifNoneExist"].endswith(
        found[3]["resource"]["identifier"][0]["value"]
    )
    targets = [each["reference"] for each in found[5]["resource"]["target"]]
    assert targets == [found[2]["fullUrl"], found[3]["fullUrl"]]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": found}
    assert parse_bundle(orjson.dumps(bundle)).type == "transaction"


def test_a_report_for_an_ehr_without_risk_assessments_is_the_observation() -> None:
    report = made_by(RISK_ASSESSMENT, 0.7)

    changed = StoredReport.read(report.to_json()).as_observation()

    assert (changed.resource_type, changed.changed) == ("Observation", (AS_OBSERVATION,))
    assert changed.opened().result == report.observation
    assert changed.as_observation() == changed
    assert changed.placed("Device/7").changed == (AS_OBSERVATION,)
    assert changed.placed(CONTAINED_DEVICE).changed == (AS_OBSERVATION,)


def test_a_report_for_an_ehr_without_media_has_no_map_and_a_provenance_of_the_rest() -> None:
    changed = StoredReport.read(with_map().to_json()).without_attachments()

    assert changed.changed == (WITHOUT_MEDIA,)
    assert changed.without_attachments() == changed
    (result, provenance) = orjson.loads(transaction([changed], {DIGEST: "Device/7"}).body)["entry"]
    assert provenance["resource"]["target"] == [{"reference": result["fullUrl"]}]


def test_a_map_written_alone_is_part_of_the_result_where_that_stands() -> None:
    (media,) = attachments_of(with_map(), "Observation/8")
    provenance = provenance_of(with_map(), "Observation/8", "Media/9")

    assert media["partOf"] == [{"reference": "Observation/8"}]
    assert provenance is not None
    assert provenance["target"] == [{"reference": "Observation/8"}, {"reference": "Media/9"}]
