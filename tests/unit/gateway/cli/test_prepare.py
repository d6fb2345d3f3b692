"""An installation is made ready, once."""

import pytest

from adapters.site import load_site
from gateway.cli.prepare import prepare_data
from gateway.core.errors import StoreUnavailable
from gateway.core.principal import Role
from gateway.settings import Settings
from gateway.store.credentials import split_token
from gateway.store.engine import is_at_head
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "nadi")


@pytest.fixture
def store(settings):
    keys = load_or_create(settings.data_dir)
    store = Store(settings.resolved_database_url, Sealer(keys.master))
    yield store
    store.close()


def test_the_first_start_makes_keys_schema_and_one_credential_per_role(settings):
    made = prepare_data(settings, sandbox=False)

    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert sorted(path.stem for path in made) == sorted(role.value for role in Role)
    for path in made:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_each_token_speaks_for_its_role(settings, store):
    made = prepare_data(settings, sandbox=False)

    with store.read() as uow:
        for path in made:
            credential_id, secret = split_token(path.read_text().strip())
            credential = uow.credentials.find(credential_id)
            assert credential.accepts(secret)
            assert credential.role == path.stem
            assert credential.system == ("ehr" if path.stem == "ehr" else None)
    assert is_at_head(store.engine)


def test_a_second_start_makes_nothing_again(settings, store):
    prepare_data(settings, sandbox=True)

    again = prepare_data(settings, sandbox=True)

    assert again == []
    with store.read() as uow:
        assert len(uow.credentials.list()) == len(Role)
        assert uow.sites.version() == 1


def test_the_sandbox_gets_its_site_and_leaves_one_that_is_there_alone(settings, store):
    prepare_data(settings, sandbox=False)
    with store.read() as uow:
        assert uow.sites.version() == 0

    prepare_data(settings, sandbox=True)

    with store.read() as uow:
        assert load_site(uow.sites.current().yaml).name == "sandbox"


def test_a_database_that_is_away_is_told_without_its_address(tmp_path):
    url = "postgresql+psycopg://nadi:secret@127.0.0.1:9/none"

    with pytest.raises(StoreUnavailable) as caught:
        prepare_data(Settings(data_dir=tmp_path / "nadi", database_url=url), sandbox=False)

    assert "secret" not in caught.value.message
