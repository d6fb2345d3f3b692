import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent.statement import StatementForged, canonical, insist_on, sign

KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
CONTENT = canonical({"b": 1, "a": "ä"})


def test_canonical_json_is_that_of_rfc_8785():
    """The example of RFC 8785 section 3.2.2, without its literals."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
    }

    assert canonical(value) == (
        b'{"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_a_signature_of_this_content_by_this_key_is_taken():
    signature = sign(CONTENT, KEY)

    insist_on(CONTENT, signature, KEY.public_key())
    assert signature.count("..") == 1


@pytest.mark.parametrize(
    ("content", "signature"),
    [
        (CONTENT + b" ", sign(CONTENT, KEY)),
        (CONTENT, sign(CONTENT, OTHER)),
        (CONTENT, sign(CONTENT, KEY)[:-8] + "AAAAAAAA"),
        (CONTENT, "eyJhbGciOiJub25lIn0.."),
        (CONTENT, ""),
        (CONTENT, "…"),
    ],
    ids=["content", "key", "signature", "none", "empty", "no signature"],
)
def test_anything_else_is_forged(content: bytes, signature: str):
    with pytest.raises(StatementForged):
        insist_on(content, signature, KEY.public_key())


@given(st.binary(max_size=40), st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(content: bytes, place: int, bit: int):
    content = content + b"."
    place %= len(content)
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit

    signature = sign(content, KEY)

    insist_on(content, signature, KEY.public_key())
    with pytest.raises(StatementForged):
        insist_on(bytes(flipped), signature, KEY.public_key())
