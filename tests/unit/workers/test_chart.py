from datetime import UTC, datetime

import pytest

from models.manifest import CodeRef
from tests.hospital import CREATININE, LOINC, UREA, FakeEhr, observation, patient
from workers.chart import Gap, described, search_chart

SINCE = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)


def gap(name: str = "p1", *codes: str, needs_patient: bool = False) -> Gap:
    wanted = tuple(CodeRef(system=LOINC, code=code) for code in codes)
    return Gap(f"Patient/{name}", wanted, SINCE, needs_patient)


class Recorder(FakeEhr):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, str]]] = []

    def search(self, resource_type, params, **how):
        self.asked.append((resource_type, dict(params)))
        return super().search(resource_type, params, **how)


def test_observations_are_asked_newest_first_no_further_back_than_they_matter() -> None:
    ehr = Recorder()

    search_chart(ehr, [gap("p1", CREATININE), gap("p2", UREA, CREATININE)])

    assert ehr.asked == [
        (
            "Observation",
            {
                "patient": "Patient/p1,Patient/p2",
                "code": f"{LOINC}|{CREATININE},{LOINC}|{UREA}",
                "date": "ge2026-11-20",
                "_sort": "-date",
                "_count": "500",
            },
        )
    ]


def test_what_is_found_is_given_to_its_patient() -> None:
    ehr = Recorder()
    for name in ("p1", "p2"):
        ehr.put(patient(name))
        ehr.put(observation(name=f"o-{name}", of=name))

    found = search_chart(ehr, [gap("p1", CREATININE), gap("p2", CREATININE, needs_patient=True)])

    assert [each["id"] for each in found["Patient/p1"]] == ["o-p1"]
    assert [each["id"] for each in found["Patient/p2"]] == ["p2", "o-p2"]


def test_other_patients_of_an_ehr_that_ignores_the_search_are_dropped() -> None:
    ehr = Recorder()
    ehr.put(observation(name="mine", of="p1"))
    ehr.put(observation(name="foreign", of="p9"))
    ehr.put({"resourceType": "Observation", "id": "nobody", "code": {}, "status": "final"})
    ehr._matches = lambda *_: True  # type: ignore[method-assign]

    found = search_chart(ehr, [gap("p1", CREATININE)])

    assert [each["id"] for each in found["Patient/p1"]] == ["mine"]


def test_many_patients_are_asked_for_in_tens() -> None:
    ehr = Recorder()

    search_chart(ehr, [gap(f"p{number}", CREATININE) for number in range(23)])

    assert [len(params["patient"].split(",")) for _, params in ehr.asked] == [10, 10, 3]


def test_nothing_missing_asks_nothing() -> None:
    ehr = Recorder()

    assert search_chart(ehr, []) == {}
    assert ehr.asked == []


def test_a_code_with_a_separator_in_it_is_escaped() -> None:
    ehr = Recorder()
    odd = Gap("Patient/p1", (CodeRef(system="s", code="a,b|c$d\\e"),), SINCE, needs_patient=False)

    search_chart(ehr, [odd])

    assert ehr.asked[0][1]["code"] == r"s|a\,b\|c\$d\\e"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (gap("secret", needs_patient=True), "Patient?_id=KEY"),
        (
            gap("secret", UREA),
            f"Observation?patient=KEY&code={LOINC}|{UREA}&date=ge2026-11-20",
        ),
    ],
    ids=["patient", "observations"],
)
def test_the_audit_log_gets_the_search_without_the_patients_id(missing: Gap, expected: str) -> None:
    assert described(missing, "KEY") == expected
