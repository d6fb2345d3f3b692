"""What an image says of itself is read within limits, whatever was done to it."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from adapters.dicom.header import NotUnderstood, read_header, split_file, whole_file
from tests.dicom import PATIENT, ct_slice, film, stored
from tests.pictures import dicom_file

LIMITS = {"max_bytes": 1 << 20, "max_pixels": 1 << 20}
FILM = stored(film())


def test_a_film_says_whose_it_is_and_what_it_shows():
    header = read_header(FILM.content, FILM.syntax, **LIMITS)

    assert (header.patient, header.modality, header.body_part) == (PATIENT, "DX", "CHEST")
    assert (header.date, header.time, header.accession) == ("20261126", "071500", "A1")
    assert header.has_image
    assert header.place is None


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
    ],
)
def test_a_slice_says_the_same_in_every_transfer_syntax(syntax):
    image = ct_slice(number=3)
    said, content = split_file(dicom_file(image, syntax=syntax))

    header = read_header(content, said, **LIMITS)

    assert (said, header.instance, header.number) == (syntax, image.SOPInstanceUID, 3)
    assert header.place == -7.5


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_image_that_is_cut_off_anywhere_is_not_understood(syntax, share):
    said, content = split_file(dicom_file(ct_slice(), syntax=syntax))

    with pytest.raises(NotUnderstood):
        read_header(content[: int(len(content) * share)], said, **LIMITS)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, len(FILM.content)))
def test_nothing_that_is_put_into_an_image_raises_anything_else(noise, at):
    content = FILM.content[:at] + noise + FILM.content[at + len(noise) :]

    with suppress(NotUnderstood):
        assert read_header(content, FILM.syntax, **LIMITS).patient


@settings(max_examples=20)
@given(st.binary(max_size=1000))
def test_a_file_gives_back_the_data_set_that_it_was_written_from(content):
    file = whole_file(content, uid.ExplicitVRLittleEndian, FILM.sop_class, FILM.instance)

    assert split_file(file) == (uid.ExplicitVRLittleEndian, content)


def test_what_is_no_file_of_dicom_is_not_understood():
    with pytest.raises(NotUnderstood, match="no DICOM file"):
        split_file(b"GIF89a" * 100)


def test_a_transfer_syntax_that_can_not_be_read_is_told():
    with pytest.raises(NotUnderstood, match="transfer syntax"):
        read_header(FILM.content, uid.JPEGLSLossless, **LIMITS)
