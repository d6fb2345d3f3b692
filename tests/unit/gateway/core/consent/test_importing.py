"""Files of consents that are broken where nobody looks at first."""

import pytest

from gateway.core.consent.importing import EXPORT, NothingToImport, documents_in

BUNDLE = b'{"resourceType":"Bundle","entry":[{"resource":%s}]}'


@pytest.mark.parametrize(
    "raw",
    [
        BUNDLE % b"[" * 5000,
        BUNDLE % (b"[" * 5000 + b"]" * 5000),
        BUNDLE % rb'{"resourceType":"Consent","id":"\ud800"}',
        b'{"resourceType":"Consent","id":"\xff"}',
        b'{"resourceType":"\xff\xfe"}',
        b'{"format":"%s","consents":[{"id":"\xff"}]}' % EXPORT.encode(),
    ],
    ids=["cut short", "nested deep", "a surrogate", "no UTF-8", "no type", "an export of no UTF-8"],
)
def test_a_file_that_can_not_be_read_has_nothing_to_import(raw: bytes):
    with pytest.raises(NothingToImport):
        documents_in(raw)
