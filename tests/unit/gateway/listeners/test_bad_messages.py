"""Messages that can't be taken, over a real socket: each is answered as docs/hl7v2.md says."""

import pytest

from tests.bad_messages import MOST_ENTRIES, SEARCHING, SITE, BadMessage, cases
from tests.conftest import Api
from tests.listening import Feed, listening
from tests.sandbox import TOKEN, SandboxEhr


@pytest.fixture
def few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API take fewer resources at once than a message may hold results."""
    monkeypatch.setenv("NADI_MAX_ENTRIES", str(MOST_ENTRIES))


@pytest.mark.usefixtures("few_entries")
@pytest.mark.parametrize("api", [SITE], indirect=True)
def test_each_bad_message_is_answered_as_the_page_says_and_none_is_stored(api: Api):
    wanted = [case for case in cases() if not case.is_searched]

    with listening(api, SITE) as feed:
        told = {case.what: answered(feed, case) for case in wanted}
        is_stored = bool(feed.events())

    assert told == {case.what: (case.code, case.err) for case in wanted}
    assert not is_stored


@pytest.mark.parametrize("api", [SEARCHING], indirect=True)
def test_a_message_whose_patient_the_ehr_refuses_to_search_is_answered_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NADI_TEST_EHR_TOKEN", TOKEN)
    (case,) = (case for case in cases() if case.is_searched)
    ehr = SandboxEhr()
    ehr.start()
    ehr.faults(unsupported_types=["Patient"])
    site = SEARCHING.replace("http://ehr.test/fhir", f"{ehr.origin}/fhir").replace(
        "auth: {kind: none}", "auth: {kind: bearer, token: env:NADI_TEST_EHR_TOKEN}"
    )

    with listening(api, site) as feed:
        told = answered(feed, case)
    ehr.stop()

    assert told == (case.code, case.err)


def answered(feed: Feed, case: BadMessage) -> tuple[str, str]:
    (answer,) = feed.send(case.message)
    assert "EVERYWOMAN" not in answer
    return read(answer)


def read(answer: str) -> tuple[str, str]:
    """Give the code of an acknowledgement, and code and place of its ERR."""
    said = {line[:3]: line.split("|") for line in answer.split("\r")}
    if "ERR" not in said:
        return said["MSA"][1], ""
    return said["MSA"][1], f"{said['ERR'][3].partition('^')[0]} {said['ERR'][2]}"
