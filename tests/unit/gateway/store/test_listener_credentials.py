from datetime import UTC, datetime, timedelta

from gateway.core.principal import Role
from gateway.store.credentials import split_token
from gateway.store.listener_credentials import ListenerCredentials
from gateway.store.sealing import MasterKey, Sealer
from tests.conftest import MASTER

NOW = datetime(2026, 11, 26, 6, 30, tzinfo=UTC)
SYSTEMS = {"ehr/poll": "ehr", "lab/mllp": "ehr"}

ours = ListenerCredentials(Sealer(MASTER))


def who(token: str, *, now: datetime = NOW, systems: dict[str, str] = SYSTEMS):
    found = split_token(token)
    assert found is not None
    return ours.principal(*found, systems, now)


def test_a_listener_is_known_by_its_token_and_speaks_for_its_system():
    principal = who(ours.token("lab/mllp", NOW))

    assert (principal.name, principal.role, principal.system) == ("lab/mllp", Role.EHR, "ehr")


def test_a_listener_keeps_its_id_and_changes_its_secret():
    first = split_token(ours.token("lab/mllp", NOW))
    later = split_token(ours.token("lab/mllp", NOW + timedelta(days=1)))

    assert first[0] == later[0]
    assert first[1] != later[1]


def test_a_token_is_good_for_hours_and_not_for_days():
    token = ours.token("lab/mllp", NOW)

    assert who(token, now=NOW + timedelta(hours=1)) is not None
    assert who(token, now=NOW - timedelta(hours=1)) is not None
    assert who(token, now=NOW + timedelta(hours=2)) is None
    assert who(token, now=NOW - timedelta(days=1)) is None


def test_a_listener_that_the_site_does_not_want_is_nobody():
    assert who(ours.token("lab/mllp", NOW), systems={"ehr/poll": "ehr"}) is None


def test_a_token_of_one_listener_is_not_one_of_another():
    number, _ = split_token(ours.token("lab/mllp", NOW))
    _, secret = split_token(ours.token("ehr/poll", NOW))

    assert ours.principal(number, secret, SYSTEMS, NOW) is None


def test_a_token_made_with_another_master_key_is_none():
    others = ListenerCredentials(Sealer(MasterKey(bytes(32))))

    assert who(others.token("lab/mllp", NOW)) is None
