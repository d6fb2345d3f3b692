"""Words that several keys of a site file share: purposes of use, and public keys."""

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.core.consent.vocabulary import PURPOSES
from models.signature import KeyUnusable, public_key


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
