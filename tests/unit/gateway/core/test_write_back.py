from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.findings import Report, ResultContext, RuntimeFacts, device_urn, refusal
from gateway.core.write_back import CONTAINED_DEVICE, StoredReport, transaction, with_device
from models.manifest import parse
from tests.hospital import DIGEST, MANIFEST

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
