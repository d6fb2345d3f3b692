"""Words that several keys of a site file share: names, secrets, purposes of use, public keys."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from gateway.core.consent.vocabulary import PURPOSES
from models.signature import KeyUnusable, public_key

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Uri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s]{1,254}$")]
#: What the schema calls texts that name something of the machine, so that it can be looked for.
FILE, FOLDER, NEW_FILE, SECRET = "file-path", "directory-path", "path", "secret-reference"

SecretReference = Annotated[
    str,
    StringConstraints(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s].*)$"),
    Field(json_schema_extra={"format": SECRET}),
]
#: A file that has to be there; where it is not absolute, a process looks where it was started.
FileName = Annotated[
    str, StringConstraints(min_length=1), Field(json_schema_extra={"format": FILE})
]
_ABSOLUTE = StringConstraints(pattern=r"^/[^\x00]{1,1023}$")
#: A folder that has to be there.
FolderPath = Annotated[str, _ABSOLUTE, Field(json_schema_extra={"format": FOLDER})]
#: A file that is made; its folder has to be there.
NewFilePath = Annotated[str, _ABSOLUTE, Field(json_schema_extra={"format": NEW_FILE})]


class Part(BaseModel):
    """A part of a site file: what is not known is refused, and nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check_purpose(code: str) -> str:
    if code not in PURPOSES:
        raise ValueError(f"unknown purpose of use '{code}'")
    return code


def _check_key(written: str) -> str:
    try:
        public_key(written)
    except KeyUnusable as error:
        raise ValueError(str(error)) from error
    return written


Purpose = Annotated[
    str, AfterValidator(_check_purpose), Field(json_schema_extra={"enum": list(PURPOSES)})
]
PublicKey = Annotated[str, AfterValidator(_check_key)]
