"""The settings of the plain build, read from the environment."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class PlainSettings(BaseSettings):
    """Each setting `x` is read from the variable `PLAIN_X`."""

    model_config = SettingsConfigDict(env_prefix="PLAIN_", frozen=True)

    database: Path
    broker_url: str
    ehr_url: str
    token: str


settings = PlainSettings()
