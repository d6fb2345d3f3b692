"""The item `drop` of a system's `receive`: a folder into which it puts FHIR files."""

from pydantic import Field

from adapters.site_silence import SilentEntry
from adapters.site_words import FolderPath


class DropEntry(SilentEntry):
    """A folder that is emptied: each file is handed in and moved away."""

    folder: FolderPath = Field(
        description="Absolute path of the folder; *.json and *.ndjson are taken out of it."
    )
    settle_s: float = Field(
        2,
        ge=0,
        le=3600,
        strict=False,
        description="A file whose size and time did not change for so long is complete; 0 for a "
        "system that renames finished files into the folder.",
    )
    every_s: float = Field(
        1, gt=0, le=3600, strict=False, description="Between two looks into the folder, in seconds."
    )
    max_bytes: int = Field(
        64 * 2**20, ge=1024, le=4 * 2**30, description="Largest file; a larger one is refused."
    )
    keep_done_days: float = Field(
        7,
        ge=0,
        le=3650,
        strict=False,
        description="How long files that were taken stay in done/; 0: for a minute.",
    )
