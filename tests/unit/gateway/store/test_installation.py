"""Every process opens its installation by one way that asks whether the keys fit the data."""

from pathlib import Path

import pytest

from gateway.core.errors import ConfigurationError
from gateway.settings import Settings
from gateway.store.installation import open_installation


def test_an_installation_is_made_once_and_opens_again(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    made = open_installation(settings)
    made.store.close()

    again = open_installation(settings)

    assert again.keys.origin == made.keys.origin
    again.store.close()


def test_another_master_key_does_not_open_it(tmp_path: Path):
    open_installation(Settings(data_dir=tmp_path)).store.close()
    other = tmp_path / "other.key"
    other.write_text("ab" * 32 + "\n")
    other.chmod(0o600)

    with pytest.raises(ConfigurationError):
        open_installation(Settings(data_dir=tmp_path, master_key_file=other))
