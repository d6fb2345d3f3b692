"""The codes of body parts are those of DICOM's own tables."""

import pytest
from pydicom.sr.codedict import codes

from adapters.dicom.body_sites import BODY_SITES

#: Anatomic Region; CT, MR and PET Anatomy Imaged; Common Anatomic Region.
TABLES = (4, 4030, 4031)
#: What DICOM calls these is not what a film does.
NAMED = {"ANKLE": "ankle joint"}


@pytest.mark.parametrize("body_part", BODY_SITES)
def test_a_body_part_has_the_code_that_dicom_gives_it(body_part: str):
    meant = NAMED.get(body_part, body_part.lower())
    tables = [getattr(codes, f"cid{number}") for number in TABLES]
    known = [getattr(table, name) for table in tables for name in table.dir()]

    found = {c.value for c in known if c.scheme_designator == "SCT" and c.meaning.lower() == meant}

    assert found == {BODY_SITES[body_part]}
