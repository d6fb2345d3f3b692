"""The key `hours` of a site file: when the hospital works."""

from datetime import date, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from adapters.site_yaml import meant
from gateway.core.working_hours import WorkingHours

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Hour = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Holiday = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


def check_zone(name: str) -> str:
    """Insist on a time zone that is known.

    Raises:
        ValueError: It is none.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        # What people call it there is no name of the list's, and means three places elsewhere.
        is_indian = name.upper() == "IST"
        offer = "" if is_indian else meant(name, available_timezones())
        offer = offer or "; such as Asia/Kolkata"
        message = f"unknown time zone '{name}', as the IANA list writes them{offer}"
        raise ValueError(message) from error
    return name


class HoursEntry(BaseModel):
    """When the hospital works; accesses outside of it are shown by `nadi audit out-of-hours`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timezone: Annotated[str, AfterValidator(check_zone)] = Field(
        description="IANA name of the time zone, such as Asia/Kolkata."
    )
    days: list[Day] = Field(
        ["mon", "tue", "wed", "thu", "fri", "sat"], min_length=1, description="Working days."
    )
    start: Hour = Field("08:00", description="When a working day begins, HH:MM, in quotes.")
    end: Hour = Field("20:00", description="When it ends, HH:MM, in quotes.")
    holidays: list[Holiday] = Field(
        [], description="Days on which nobody works, YYYY-MM-DD, in quotes."
    )

    @field_validator("holidays")
    @classmethod
    def _are_days(cls, holidays: list[str]) -> list[str]:
        for each in holidays:
            try:
                date.fromisoformat(each)
            except ValueError as error:
                raise ValueError("a holiday is no day of the calendar") from error
        return holidays

    @model_validator(mode="after")
    def _in_order(self) -> "HoursEntry":
        if self.start >= self.end:
            raise ValueError("start has to be before end, on the same day")
        return self

    def working(self) -> WorkingHours:
        """Give the hours ready for use."""
        return WorkingHours(
            zone=ZoneInfo(self.timezone),
            days=frozenset(_DAYS.index(day) for day in self.days),
            start=time.fromisoformat(self.start),
            end=time.fromisoformat(self.end),
            holidays=frozenset(date.fromisoformat(each) for each in self.holidays),
        )
