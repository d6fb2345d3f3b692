"""Down the ladder: each result ends on the best rung that its EHR has, and what is lost is told."""

from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from gateway.core.ladder import IfLabelLost, Left, Rung, Terms
from gateway.core.read_back import Label, label_of
from gateway.core.write_back import AS_OBSERVATION, StoredReport
from tests.hospital import FakeEhr
from tests.result_models import RISK, RISK_ASSESSMENT, made
from workers.climb import Sender
from workers.climbing import AS_TEXT, OWN_CODE, LadderRecipient, ladder_recipient
from workers.ehr_abilities import REMEMBER_S, EhrAbilities
from workers.fates import Fate, NotReached, NotTaken, OnWorklist, Withheld, Written
from workers.verifying import LEFT_THERE, UNREAD

REPORT = StoredReport.read(made(RISK, 0.7).to_json())
AS_RISK = StoredReport.read(made(RISK_ASSESSMENT, 0.7).to_json())
LABELS = ("meta", "identifier", "device", "note", "text", "method", "code.text", "contained")
(CODING,) = made(RISK, 0.7).result["code"]["coding"]
CODES = {(CODING["system"], CODING["code"]): ("", "uuid-1", "Kidney risk")}
#: The site does not say how the EHR calls its code.
NAMELESS = {(CODING["system"], CODING["code"]): ("", "uuid-1", "")}
SAYS_AI = {(CODING["system"], CODING["code"]): ("", "uuid-1", "AI: kidney risk")}


def under(report: StoredReport = REPORT, **terms: object) -> StoredReport:
    return replace(report, terms=Terms(**terms))


def recipient(ehr: FakeEhr, profile: str | None = None, **senders: Sender) -> LadderRecipient:
    known = {Rung(name.replace("_", "-")): sender for name, sender in senders.items()}
    return ladder_recipient(ehr, EhrAbilities(ehr, profile=profile), senders=known)


def write(
    ehr: FakeEhr, report: StoredReport = REPORT, profile: str | None = None, *, again: bool = False
) -> Fate:
    repeated = frozenset({report.identifier}) if again else frozenset()
    return recipient(ehr, profile).write([report], repeated=repeated)[report.identifier]


def only(*types: str) -> FakeEhr:
    ehr = FakeEhr()
    ehr.types = types
    return ehr


def test_a_result_that_is_kept_whole_says_so_and_is_looked_at_once_in_a_while() -> None:
    ehr = FakeEhr()
    writer = recipient(ehr)

    fates = [writer.write([REPORT], repeated=frozenset()) for _ in range(3)]

    assert fates[0][REPORT.identifier] == Written(
        "Observation/observation-1", 201, rung=Rung.OBSERVATION
    )
    assert ehr.calls.count("read Observation/observation-1") == 1


@pytest.mark.parametrize("profile", ["hapi", "medplum", "generic"])
def test_no_profile_is_believed_before_a_result_of_its_type_and_model_was_looked_at(
    profile: str,
) -> None:
    ehr = FakeEhr()
    writer = recipient(ehr, profile)
    same, other = (replace(REPORT, identifier=each) for each in ("same", "other"))
    stranger = StoredReport.read(made(RISK, 0.2).to_json())
    stranger = replace(stranger, identifier="stranger", digest="e" * 64)

    for report in (REPORT, same, AS_RISK, other, stranger):
        writer.write([report], repeated=frozenset())

    kinds = [call for call in ehr.calls if call.startswith("read ")]
    assert [call.partition("/")[0] for call in kinds] == [
        "read Observation",
        "read RiskAssessment",
        "read Observation",
    ]


def test_one_that_loses_a_label_later_is_not_believed_for_what_it_kept_before() -> None:
    ehr, now = FakeEhr(), [0.0]
    abilities = EhrAbilities(ehr, profile="hapi", monotonic=lambda: now[0])
    writer = ladder_recipient(ehr, abilities)
    reports = [replace(REPORT, identifier=str(number)) for number in range(4)]
    writer.write(reports[:1], repeated=frozenset())
    ehr.drops["Observation"] = ("meta", "identifier")
    unnoticed = writer.write(reports[1:2], repeated=frozenset())["1"]
    now[0] = REMEMBER_S

    fates = [writer.write([each], repeated=frozenset())[each.identifier] for each in reports[2:]]

    assert isinstance(unnoticed, Written)
    assert (unnoticed.lost, unnoticed.is_read) == ((), False)
    for fate in fates:
        assert isinstance(fate, Written)
        assert (fate.lost, fate.is_read) == (("meta.security", "identifier"), True)


def test_an_ehr_that_does_not_say_where_a_result_is_can_t_be_looked_at_and_it_is_told() -> None:
    ehr = FakeEhr()
    ehr.tells_no_place = True

    fate = write(ehr, profile="hapi")

    assert isinstance(fate, Written)
    assert (fate.lost, fate.is_read) == ((UNREAD,), False)


@pytest.mark.parametrize(
    "rung", [Rung.DIAGNOSTIC_REPORT, Rung.DOCUMENT_REFERENCE, Rung.COMMUNICATION, Rung.TASK]
)
@pytest.mark.parametrize("report", [REPORT, AS_RISK], ids=["observation", "risk"])
def test_an_ehr_with_one_lower_rung_gets_the_result_in_that_form_once(
    rung: Rung, report: StoredReport
) -> None:
    name = rung.replace("-", " ").title().replace(" ", "")
    ehr = only(name, "Device")
    ehr.ignores_conditions = True

    fate, again = write(ehr, report), write(ehr, report, again=True)

    assert isinstance(fate, Written)
    assert isinstance(again, Written)
    assert (fate.rung, again.status) == (rung, 200)
    assert {each.rung for each in fate.left} >= {Rung.OBSERVATION, Rung.RISK_ASSESSMENT}
    assert any("as a number" in each for each in fate.lost)
    assert [len(kept) for name, kept in ehr.resources.items() if name != "Device"][:1] == [1]
    assert ehr.of("Observation") == []


def test_what_no_rung_takes_stays_on_the_worklist_with_every_reason() -> None:
    ehr = only("Patient")

    fate = write(ehr)

    assert isinstance(fate, OnWorklist)
    assert len(fate.left) == len(Rung) - 1
    why = "Its CapabilityStatement names no create of Observation."
    assert Left(Rung.OBSERVATION, why) in fate.left
    assert ehr.resources == {}


def test_a_site_that_allows_no_way_is_told_so_and_nothing_is_sent() -> None:
    ehr = FakeEhr()

    fate = write(ehr, under(only=frozenset({Rung.HL7V2_ORU})))

    assert isinstance(fate, NotTaken)
    assert fate.why.startswith("The site allows no way that the EHR takes.")
    assert ehr.resources == {}


def test_a_forbidden_observation_makes_a_risk_stay_one_and_the_other_way_round() -> None:
    ehr = FakeEhr()

    risk = write(ehr, under(AS_RISK, never=frozenset({Rung.OBSERVATION})))
    plain = write(FakeEhr(), under(AS_RISK, never=frozenset({Rung.RISK_ASSESSMENT})))

    assert isinstance(risk, Written)
    assert isinstance(plain, Written)
    assert risk.rung is Rung.RISK_ASSESSMENT
    assert (plain.rung, plain.changed) == (Rung.OBSERVATION, (AS_OBSERVATION,))


def test_an_ehr_that_says_it_has_a_type_and_has_not_gives_the_next_rung_and_is_remembered() -> None:
    ehr = only("Observation", "DiagnosticReport", "Device")
    ehr.refused.update({"": 501, "Observation": 404})
    writer = recipient(ehr)

    fates = [writer.write([REPORT], repeated=frozenset({REPORT.identifier})) for _ in range(2)]

    fate = fates[0][REPORT.identifier]
    assert isinstance(fate, Written)
    assert fate.rung is Rung.DIAGNOSTIC_REPORT
    assert Left(Rung.OBSERVATION, "The EHR refused it: HTTP 404.") in fate.left
    assert ehr.calls.count("create Observation") == 1
    assert len(ehr.of("DiagnosticReport")) == 1


def test_an_ehr_that_answers_404_to_all_it_says_it_has_is_waited_for() -> None:
    ehr = FakeEhr()
    ehr.refused.update({"": 404, "Observation": 404, "Device": 404})

    fates = [write(ehr), write(ehr)]

    assert fates == [NotReached("EhrRefused 404")] * 2


def test_a_refusal_of_the_content_ends_it_unless_the_profile_says_it_is_the_form() -> None:
    ehr = only("Observation", "DiagnosticReport")
    ehr.refused["Observation"] = 422
    coded = under(codes=CODES)

    assert write(ehr, coded) == NotTaken(422)
    fate = write(ehr, coded, "openmrs-fhir2")
    assert isinstance(fate, OnWorklist)
    assert Left(Rung.OBSERVATION, "The EHR refused the form: HTTP 422.") in fate.left


# -- what was dropped ------------------------------------------------------------------------


def test_what_the_ehr_dropped_is_told_with_each_result() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("meta", "identifier", "device")

    first, second = write(ehr), write(ehr)

    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert first.lost == second.lost == ("meta.security", "identifier", "device")


def test_openmrs_gets_its_own_code_and_the_label_in_words_from_the_second_result_at_once() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = LABELS
    ehr.ignores_conditions = True
    writer = recipient(ehr, "openmrs-fhir2")
    other = StoredReport.read(made(RISK, 0.2).to_json())
    reports = [under(codes=NAMELESS), under(replace(other, identifier="another"), codes=NAMELESS)]

    fates = [writer.write([r], repeated=frozenset())[r.identifier] for r in reports]

    assert all(isinstance(fate, Written) for fate in fates)
    kept = ehr.of("Observation")
    assert [each["code"]["coding"][0]["code"] for each in kept] == ["uuid-1", "uuid-1"]
    assert all(each["valueString"].startswith("AI, preliminary: ") for each in kept)
    assert [OWN_CODE in fate.changed and AS_TEXT in fate.changed for fate in fates] == [True, True]
    assert sum(call.startswith("update ") for call in ehr.calls) == 1
    assert not any("urn:uuid" in str(each) for each in kept)
    assert ehr.of("Device") == ehr.of("Provenance") == []


@pytest.mark.parametrize(
    ("codes", "value"), [(CODES, "valueString"), (SAYS_AI, "valueQuantity")], ids=["mute", "AI"]
)
def test_openmrs_gets_no_number_whose_code_does_not_say_ai_not_even_until_it_is_read_back(
    codes: dict[tuple[str, str], tuple[str, str, str]], value: str
) -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = LABELS
    ehr.ignores_conditions = True
    ehr.dies_at = "read Observation/observation-1"

    first = write(ehr, under(codes=codes), "openmrs-fhir2")

    assert isinstance(first, NotReached)
    (kept,) = ehr.of("Observation")
    assert [name for name in kept if name.startswith("value")] == [value]
    assert label_of(kept) is Label.WORDS


def test_openmrs_without_a_code_of_its_own_for_the_result_gets_nothing() -> None:
    fate = write(FakeEhr(), REPORT, "openmrs-fhir2")

    assert isinstance(fate, OnWorklist)
    assert "write_back.codes" in fate.left[0].why


def test_a_site_may_want_the_next_rung_where_the_label_is_lost() -> None:
    ehr = only("Observation", "DocumentReference", "Device", "Provenance")
    ehr.drops["Observation"] = ("meta",)
    wary = under(if_label_lost=IfLabelLost.NEXT_RUNG)
    writer = recipient(ehr)

    fates = [writer.write([wary], repeated=frozenset({wary.identifier})) for _ in range(2)]

    fate = fates[0][wary.identifier]
    assert isinstance(fate, Written)
    assert fate.rung is Rung.DOCUMENT_REFERENCE
    (observation,) = ehr.of("Observation")
    assert observation["status"] == "entered-in-error"
    assert len(ehr.of("DocumentReference")) == 1


def test_a_site_may_want_to_stop_where_the_label_is_lost() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("meta",)

    fate = write(ehr, under(if_label_lost=IfLabelLost.STOP))

    assert isinstance(fate, NotTaken)
    assert "says to stop" in fate.why
    assert [each["status"] for each in ehr.of("Observation")] == ["entered-in-error"]


def test_a_site_that_stops_sends_nothing_more_once_a_label_was_lost() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("meta",)
    writer, wary = recipient(ehr), under(if_label_lost=IfLabelLost.STOP)

    fates = [writer.write([wary], repeated=frozenset())[wary.identifier] for _ in range(2)]

    assert all(isinstance(fate, NotTaken) for fate in fates)
    assert len(ehr.of("Observation")) == 1


def test_an_ehr_that_keeps_no_words_either_gets_the_next_rung() -> None:
    ehr = only("Observation", "DiagnosticReport", "Device")
    ehr.drops["Observation"] = (*LABELS, "valueString")

    fate = write(ehr)

    assert isinstance(fate, Written)
    assert fate.rung is Rung.DIAGNOSTIC_REPORT
    assert [each["status"] for each in ehr.of("Observation")] == ["entered-in-error"]


def test_what_can_t_be_taken_back_is_told_and_not_written_twice() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = LABELS
    ehr.refused["update Observation"] = 405

    fate = write(ehr)

    assert isinstance(fate, Written)
    assert fate.lost[-2:] == ("words", LEFT_THERE)
    assert len(ehr.of("Observation")) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_what_can_t_be_read_back_is_told(status: int) -> None:
    ehr = FakeEhr()
    ehr.refused["read Observation"] = status

    fate = write(ehr)

    assert isinstance(fate, Written)
    assert fate.lost == (UNREAD,)


def test_an_ehr_that_goes_away_before_it_is_read_is_looked_at_by_the_next_attempt() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("meta",)
    ehr.dies_at = "read Observation/observation-1"

    first, again = write(ehr), write(ehr, again=True)

    assert first == NotReached("EhrUnreachable")
    assert isinstance(again, Written)
    assert (again.status, again.lost) == (200, ("meta.security",))


# -- once, where nothing tells a result apart ------------------------------------------------


def forgetful() -> FakeEhr:
    """An EHR that drops identifiers, heeds no condition and ignores a search for identifiers."""
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("identifier",)
    ehr.ignores_conditions = ehr.is_unlabelled = True
    ehr.refused[""] = 501
    return ehr


def test_a_lost_answer_of_an_ehr_nobody_knows_makes_no_second_result_either() -> None:
    ehr = forgetful()
    ehr.is_unlabelled = False  # a search by identifier is heeded, and finds nothing
    write(ehr)

    again = write(ehr, again=True)

    assert isinstance(again, Written)
    assert (again.location, again.status) == ("Observation/observation-1", 200)
    assert len(ehr.of("Observation")) == 1


@pytest.mark.parametrize("profile", [None, "openmrs-fhir2"])
def test_a_lost_answer_makes_no_second_result_where_identifiers_are_dropped(
    profile: str | None,
) -> None:
    ehr, report = forgetful(), under(codes=CODES)
    assert isinstance(write(ehr, report, profile), Written)

    again = write(ehr, report, profile, again=True)

    assert isinstance(again, Written)
    assert (again.location, again.status) == ("Observation/observation-1", 200)
    assert len(ehr.of("Observation")) == 1


def test_a_number_whose_answer_was_lost_is_found_although_values_are_texts_by_now() -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = LABELS
    ehr.ignores_conditions = ehr.is_unlabelled = True
    writer = recipient(ehr, "openmrs-fhir2")
    first = under(codes=NAMELESS)
    other = under(replace(REPORT, identifier="another"), codes=NAMELESS)
    ehr.dies_at = "update Observation/observation-1"
    lost = writer.write([first], repeated=frozenset())[first.identifier]
    ehr.resources["Observation"][0]["effectiveDateTime"] = "2026-11-19T08:00:00Z"
    writer.write([other], repeated=frozenset())
    ehr.resources["Observation"][0]["effectiveDateTime"] = "2026-11-20T02:30:00Z"
    taken = replace(first, taken=frozenset({"Observation/observation-2"}))

    fate = writer.write([taken], repeated=frozenset({first.identifier}))[first.identifier]

    assert isinstance(lost, NotReached)
    assert isinstance(fate, Written)
    assert fate.location == "Observation/observation-1"
    assert all("valueString" in each for each in ehr.of("Observation"))


def test_a_place_that_is_known_to_be_another_result_s_is_not_taken_for_this_one() -> None:
    ehr = forgetful()
    write(ehr, REPORT)
    other = replace(REPORT, identifier="other", taken=frozenset({"Observation/observation-1"}))

    fate = write(ehr, other, again=True)

    assert isinstance(fate, Written)
    assert (fate.location, fate.status) == ("Observation/observation-2", 201)


@pytest.mark.parametrize("profile", ["hapi", "medplum", None])
def test_conditions_that_find_no_identifier_don_t_count_once_a_result_was_seen_without_it(
    profile: str | None,
) -> None:
    ehr = FakeEhr()
    ehr.drops["Observation"] = ("identifier",)
    writer = recipient(ehr, profile)
    writer.write([REPORT], repeated=frozenset())
    ehr.refused["search Observation"] = 400
    other = replace(REPORT, identifier="other")

    fate = writer.write([other], repeated=frozenset({"other"}))["other"]

    assert fate == NotReached("EhrRefused", is_of_system=False)
    assert len(ehr.of("Observation")) == 1


def test_the_search_by_looks_is_spared_once_a_result_was_read_back_with_its_identifier() -> None:
    ehr = FakeEhr()
    writer = recipient(ehr, "hapi")
    reports = [replace(REPORT, identifier=str(number)) for number in range(3)]

    counts = []
    for each in reports:
        before = ehr.calls.count("search Observation True")
        writer.write([each], repeated=frozenset({each.identifier}))
        counts.append(ehr.calls.count("search Observation True") - before)

    assert counts == [2, 1, 1]


def test_two_results_that_look_alike_are_not_found_as_the_same_one() -> None:
    ehr = forgetful()
    other = replace(REPORT, identifier="other")
    writer = recipient(ehr, "openmrs-fhir2")
    write(ehr, REPORT)
    both = [under(codes=CODES), under(other, codes=CODES)]
    ehr.resources["Observation"][0]["code"] = {"coding": [{"code": "uuid-1"}]}

    fates = writer.write(both, repeated=frozenset(r.identifier for r in both))

    assert {fate.location for fate in fates.values() if isinstance(fate, Written)} == {
        "Observation/observation-1",
        "Observation/observation-2",
    }


def test_each_of_two_results_that_look_alike_is_found_as_itself() -> None:
    ehr = forgetful()
    later = {**orjson.loads(REPORT.result), "issued": "2026-11-20T09:00:00.000Z"}
    first = under(codes=SAYS_AI)
    other = replace(first, identifier="other", result=orjson.dumps(later))
    writer = recipient(ehr, "openmrs-fhir2")
    for each in (first, other):
        writer.write([each], repeated=frozenset())

    fates = writer.write([other, first], repeated=frozenset({"other", first.identifier}))

    places = {name: fate.location for name, fate in fates.items() if isinstance(fate, Written)}
    assert places == {
        first.identifier: "Observation/observation-1",
        "other": "Observation/observation-2",
    }


def test_an_ehr_that_can_t_be_searched_and_heeds_no_condition_is_not_written_to_again() -> None:
    ehr, report = forgetful(), under(codes=CODES)
    ehr.refused["search Observation"] = 400

    fate = write(ehr, report, "openmrs-fhir2", again=True)

    assert fate == NotReached("EhrRefused", is_of_system=False)
    assert ehr.of("Observation") == []


# -- beyond FHIR -----------------------------------------------------------------------------


class Feed:
    """Takes results as messages."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, report: StoredReport, let_go: Callable[[], bool]) -> Fate:
        if not let_go():
            return Withheld()
        self.sent.append(report.identifier)
        return Written(None, 200)


def test_a_sender_of_messages_is_a_rung_of_its_own() -> None:
    ehr, feed = only("Patient"), Feed()

    fate = recipient(ehr, hl7v2_oru=feed).write([REPORT], repeated=frozenset())[REPORT.identifier]

    assert isinstance(fate, Written)
    assert fate.rung is Rung.HL7V2_ORU
    assert feed.sent == [REPORT.identifier]


def test_a_sender_of_messages_sends_nothing_that_the_gate_holds_back() -> None:
    feed = Feed()
    writer = recipient(only("Patient"), hl7v2_oru=feed)

    fates = writer.write([REPORT], repeated=frozenset(), gate=lambda _: ())

    assert fates == {REPORT.identifier: Withheld()}
    assert feed.sent == []
