import time

import pytest
import sqlalchemy as sa

from gateway.api import security
from gateway.api.security import Authenticator
from gateway.core.errors import LoginRequired, StoreUnavailable
from gateway.core.principal import Role
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER


def bearer(token: str) -> str:
    return f"Bearer {token}"


def made(store: Store) -> tuple[str, str]:
    with store.write() as uow:
        return uow.credentials.add("the EHR", Role.EHR, "ehr")


def test_a_token_speaks_for_its_credential(store: Store):
    credential, token = made(store)

    who = Authenticator(store).authenticate(bearer(token))

    assert (who.id, who.name, who.role, who.system) == (credential, "the EHR", Role.EHR, "ehr")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_may_be_in_any_case(store: Store, scheme: str):
    _, token = made(store)

    assert Authenticator(store).authenticate(f"{scheme}   {token} ")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x y", "Basic {token}"])
def test_without_a_bearer_token_nobody_passes(store: Store, header: str | None):
    _, token = made(store)
    given = header and header.format(token=token)

    with pytest.raises(LoginRequired):
        Authenticator(store).authenticate(given)
    with pytest.raises(LoginRequired):
        Authenticator(store).remembered(given)


def test_a_wrong_secret_is_refused_even_beside_a_remembered_right_one(store: Store):
    _, token = made(store)
    doors = Authenticator(store)
    doors.authenticate(bearer(token))
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")

    with pytest.raises(LoginRequired):
        doors.remembered(bearer(wrong))
    with pytest.raises(LoginRequired):
        doors.authenticate(bearer(wrong))


def test_a_credential_is_remembered_for_a_moment_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    _, token = made(store)
    doors = Authenticator(store)
    assert doors.remembered(bearer(token)) is None
    doors.authenticate(bearer(token))
    assert doors.remembered(bearer(token)) is not None

    monkeypatch.setattr(security, "REMEMBERED_S", -1.0)

    assert doors.remembered(bearer(token)) is None


def test_a_revocation_takes_hold_once_the_moment_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    credential, token = made(store)
    doors = Authenticator(store)
    monkeypatch.setattr(security, "REMEMBERED_S", 0.05)
    doors.authenticate(bearer(token))
    with store.write() as uow:
        uow.credentials.revoke(credential)
    time.sleep(0.06)

    assert doors.remembered(bearer(token)) is None
    with pytest.raises(LoginRequired, match="no longer"):
        doors.authenticate(bearer(token))


def test_a_busy_caller_costs_no_query_while_it_is_remembered(store: Store):
    _, token = made(store)
    doors = Authenticator(store)
    doors.authenticate(bearer(token))
    queries: list[object] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *a: queries.append(a))

    for _ in range(10):
        doors.remembered(bearer(token))

    assert queries == []


def test_memory_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(security, "_MOST_REMEMBERED", 2)
    doors = Authenticator(store)
    tokens = [made(store)[1] for _ in range(5)]

    for token in tokens:
        doors.authenticate(bearer(token))

    assert len(doors._remembered) <= 2
    assert doors.remembered(bearer(tokens[-1])) is not None


def test_a_database_that_is_away_lets_nobody_pass(tmp_path):
    token = f"nadi_{'0' * 36}_{'a' * 43}"
    away = Store(f"sqlite:///{tmp_path}/no/such.db", Sealer(MASTER))

    with pytest.raises(StoreUnavailable):
        Authenticator(away).authenticate(bearer(token))
    away.close()
