"""Calls that are none: each is answered as docs/cds-hooks.md says, and stores nothing."""

import pytest

from tests.bad_calls import MARK, BadCall, cases
from tests.cds import cds_site
from tests.conftest import Api


@pytest.mark.parametrize("api", [cds_site(within_ms=2000)], indirect=True)
def test_each_bad_call_is_answered_as_the_page_says_and_nothing_is_stored(api: Api):
    told = {case.what: answered(api, case) for case in cases()}

    assert told == {case.what: (case.status, case.code, case.place) for case in cases()}
    with api.store.read() as uow:
        assert uow.connection.exec_driver_sql("select count(*) from events").scalar() == 0


def answered(api: Api, case: BadCall) -> tuple[int, str, str]:
    answer = api.client.post(case.path, content=case.body, headers=case.sent(api.tokens))
    assert MARK not in answer.text
    issue = answer.json()["issue"][0]
    assert issue["diagnostics"]
    return answer.status_code, issue["code"], issue.get("expression", [""])[0]
