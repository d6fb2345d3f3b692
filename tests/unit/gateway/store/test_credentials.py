import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import NotFound
from gateway.core.principal import Principal, Role
from gateway.store.credentials import split_token
from gateway.store.unit_of_work import Store


def test_a_token_is_taken_apart_into_the_credential_and_a_secret_it_accepts(store: Store):
    with store.write() as uow:
        made, token = uow.credentials.add("the EHR", Role.EHR, "ehr")

    parts = split_token(token)

    assert parts is not None
    with store.read() as uow:
        found = uow.credentials.find(parts[0])
    assert found is not None
    assert found.accepts(parts[1])
    assert not found.accepts(parts[1][:-1] + ("a" if parts[1][-1] != "a" else "b"))
    assert found.principal() == Principal(made, "the EHR", Role.EHR, "ehr")


def test_the_secret_is_nowhere_in_the_database(store: Store):
    with store.write() as uow:
        _, token = uow.credentials.add("the EHR", Role.EHR, "ehr")
    secret = token.removeprefix("nadi_")[37:]

    with store.engine.connect() as connection:
        rows = connection.execute(sa.text("select * from credentials")).all()

    assert secret not in str(rows)


def test_a_revoked_credential_accepts_nothing_and_stays_in_the_list(store: Store):
    with store.write() as uow:
        first, token = uow.credentials.add("a", Role.OPERATOR)
        second, _ = uow.credentials.add("b", Role.OPERATOR)
        uow.credentials.revoke(first)

    with store.read() as uow:
        listed = {credential.id: credential for credential in uow.credentials.list()}
    assert listed.keys() == {first, second}
    assert not listed[first].accepts((split_token(token) or ("", ""))[1])
    assert listed[second].revoked_ms is None


def test_what_is_revoked_or_unknown_cannot_be_revoked(store: Store):
    with store.write() as uow:
        made, _ = uow.credentials.add("a", Role.OPERATOR)
        uow.credentials.revoke(made)

    for unknown in (made, "no-such-id"):
        with store.write() as uow, pytest.raises(NotFound):
            uow.credentials.revoke(unknown)


def test_an_unknown_credential_is_not_found(store: Store):
    with store.read() as uow:
        assert uow.credentials.find("no-such-id") is None


@given(st.text())
def test_what_is_no_token_of_ours_is_not_taken_apart(text: str):
    assert split_token(text) is None


@pytest.mark.parametrize(
    "token",
    [
        "nadi_" + "0" * 36 + "_" + "a" * 42,
        "nadi_" + "0" * 36 + "_" + "a" * 44,
        "nadi_" + "0" * 36 + "_" + "a" * 43 + "\n",
        "nadi_" + "G" * 36 + "_" + "a" * 43,
    ],
)
def test_a_token_has_exactly_one_form(token: str):
    assert split_token(token) is None
