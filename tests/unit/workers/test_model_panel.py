"""A panel names the model of a result once, whichever answer of the EHR is lost."""

from dataclasses import replace

import pytest

from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.errors import EhrRefused, EhrTimeout
from gateway.core.ladder import Panel, Terms
from gateway.core.write_back import StoredReport
from tests.hospital import FakeEhr
from tests.result_models import RISK, made
from workers.climbing import LadderRecipient, ladder_recipient
from workers.ehr_abilities import EhrAbilities
from workers.fates import Fate, NotReached, Written
from workers.model_panel import MODEL_PANEL

RESULT = made(RISK, 0.7)
(CODING,) = RESULT.result["code"]["coding"]
TERMS = Terms(
    codes={(CODING["system"], CODING["code"]): ("", "risk", "AI: kidney risk")},
    panel=Panel("the-panel", "the-model"),
)
REPORT = replace(StoredReport.read(RESULT.to_json()), terms=TERMS)
DROPPED = ("meta", "identifier", "device", "note", "text", "method", "code.text", "contained")


class OpenMrs(FakeEhr):
    """Keeps little, heeds no condition, and loses the answer to one create."""

    def __init__(self, *, loses: int = 0, refuses: str = "") -> None:
        super().__init__()
        self.drops["Observation"] = DROPPED
        self.ignores_conditions = self.is_unlabelled = True
        self._loses, self._refuses, self._creates = loses, refuses, 0

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        if self._refuses and f'"{self._refuses}"'.encode() in body:
            raise EhrRefused(422)
        outcome = super().create(resource_type, body, if_none_exist=if_none_exist)
        self._creates += 1
        if self._creates == self._loses:
            raise EhrTimeout
        return outcome


def recipient(ehr: FakeEhr) -> LadderRecipient:
    return ladder_recipient(ehr, EhrAbilities(ehr, profile="openmrs-fhir2"))


def write(ehr: FakeEhr, report: StoredReport = REPORT, *, again: bool = False) -> Fate:
    repeated = frozenset({report.identifier}) if again else frozenset()
    return recipient(ehr).write([report], repeated=repeated)[report.identifier]


def under(ehr: FakeEhr, code: str) -> list[dict[str, object]]:
    found = ehr.of("Observation")
    return [each for each in found if each["code"]["coding"][0]["code"] == code]


def members(ehr: FakeEhr) -> list[list[str]]:
    return [[m["reference"] for m in panel["hasMember"]] for panel in under(ehr, "the-panel")]


def test_a_panel_holds_the_number_and_the_title_and_version_of_its_model() -> None:
    ehr = OpenMrs()

    fate = write(ehr)

    assert isinstance(fate, Written)
    (model,) = under(ehr, "the-model")
    assert model["valueString"] == RESULT.result["method"]["text"]
    assert members(ehr) == [["Observation/observation-1", "Observation/observation-2"]]
    (panel,) = under(ehr, "the-panel")
    assert not any(name.startswith("value") for name in panel)
    assert panel["status"] == "preliminary"
    assert panel["subject"] == model["subject"] == RESULT.result["subject"]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_whichever_answer_is_lost_everything_is_there_once(lost: int) -> None:
    ehr = OpenMrs(loses=lost)

    first, again, third = write(ehr), write(ehr, again=True), write(ehr, again=True)

    assert isinstance(first, NotReached)
    assert isinstance(again, Written)
    assert isinstance(third, Written)
    assert [len(under(ehr, code)) for code in ("risk", "the-model", "the-panel")] == [1, 1, 1]
    assert len(members(ehr)[0]) == 2


def test_two_results_of_one_moment_have_a_panel_and_a_text_each() -> None:
    ehr = OpenMrs()
    other = replace(StoredReport.read(made(RISK, 0.2).to_json()), identifier="other", terms=TERMS)
    write(ehr)

    fate = write(ehr, other)
    again = write(ehr, other, again=True)

    assert isinstance(fate, Written)
    assert isinstance(again, Written)
    assert len({place for panel in members(ehr) for place in panel}) == 4
    assert len(under(ehr, "the-panel")) == 2


@pytest.mark.parametrize("refused", ["the-model", "the-panel"])
def test_a_panel_that_is_refused_leaves_the_result_and_is_told(refused: str) -> None:
    ehr = OpenMrs(refuses=refused)

    fate = write(ehr)

    assert isinstance(fate, Written)
    assert MODEL_PANEL in fate.lost
    assert len(under(ehr, "risk")) == 1


def test_an_ehr_that_can_t_be_searched_gets_no_second_panel() -> None:
    ehr = OpenMrs(loses=3)
    write(ehr)
    narrow, ehr.refused["search Observation"] = recipient(ehr), 400

    fate = narrow._panels.complete(
        RESULT.result, Written("Observation/observation-1", 200), Panel("the-panel", "the-model")
    )

    assert isinstance(fate, Written)
    assert fate.lost == (MODEL_PANEL,)
    assert len(under(ehr, "the-panel")) == 1


def test_without_a_panel_in_the_site_file_nothing_is_written_beside_a_result() -> None:
    ehr = OpenMrs()

    write(ehr, replace(REPORT, terms=replace(TERMS, panel=None)))

    assert len(ehr.of("Observation")) == 1
