"""The form of a package: what is written can be read, all else is refused with its reason."""

import io
import stat
import struct
import subprocess
import sys
import zipfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models import archive
from models.refusals import (
    ArchiveTruncated,
    CompressedFile,
    DuplicateName,
    EncryptedFile,
    FileDamaged,
    FileMissing,
    HeadersDisagree,
    NotAnArchive,
    PackageRefused,
    SpecialFile,
    TooLarge,
    TooManyFiles,
    TrailingData,
    UnsafeName,
)

FILES = {"manifest.toml": b"name = 1\n", "model.onnx": bytes(range(256)) * 4, "empty.txt": b""}
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True).filter(lambda n: ".." not in n)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=6)
TWO_GIB = 2 * 2**30


def packed(files=FILES):
    target = io.BytesIO()
    archive.write(target, files.items())
    return target.getvalue()


def read(content, path):
    path.write_bytes(content)
    with archive.opened(path) as opened:
        return {name: opened.read(name) for name in opened.sizes}


def zipped(*entries, comment=b""):
    """Zip with Python's own library: (ZipInfo or name, content) each."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name, content in entries:
            made.writestr(name, content)
        made.comment = comment
    return target.getvalue()


def claiming(size):
    """Give an archive in which one file claims a size in both of its headers."""
    content = bytearray(packed({"model.onnx": b"few bytes"}))
    struct.pack_into("<LL", content, 18, size, size)
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<LL", content, directory + 20, size, size)
    return bytes(content)


@given(files=CONTENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_can_be_read_back_by_us_and_by_every_zip_library(files, tmp_path):
    content = packed(files)

    assert read(content, tmp_path / "a.zip") == files
    with zipfile.ZipFile(io.BytesIO(content)) as by_library:
        assert by_library.testzip() is None
        assert {name: by_library.read(name) for name in by_library.namelist()} == files


def test_the_same_files_give_the_same_bytes():
    assert packed() == packed(dict(FILES))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_refused(data, tmp_path):
    content = bytearray(packed())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(PackageRefused):
        read(bytes(content), tmp_path / "a.zip")


@pytest.mark.parametrize("length", [0, 1, 4, 21, 22, 23, 100, 600])
def test_an_archive_that_was_cut_is_refused_as_truncated(length, tmp_path):
    error = NotAnArchive if length < 4 else ArchiveTruncated

    with pytest.raises(error):
        read(packed()[:length], tmp_path / "a.zip")


@given(content=st.binary(max_size=300))
@example(content=b"PK\x05\x06" + bytes(18))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_archive_is_refused(content, tmp_path):
    with pytest.raises(PackageRefused):
        read(content, tmp_path / "a.zip")


@given(middle=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_directory_that_is_rubbish_is_refused(middle, tmp_path):
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(middle), 4, 0)

    with pytest.raises(PackageRefused):
        read(b"PK\x03\x04" + middle + end, tmp_path / "a.zip")


def test_a_missing_file_and_a_folder_are_no_archives(tmp_path):
    for path in (tmp_path / "nowhere.zip", tmp_path):
        with pytest.raises(NotAnArchive, match="can't be read"), archive.opened(path):
            pass


@pytest.mark.parametrize("behind", [b"x", bytes(30), packed()], ids=["byte", "zeros", "another"])
def test_what_follows_the_end_is_refused(behind, tmp_path):
    with pytest.raises((TrailingData, HeadersDisagree)):
        read(packed() + behind, tmp_path / "a.zip")


def test_a_comment_is_refused(tmp_path):
    with pytest.raises(TrailingData, match="comment"):
        read(zipped(("a.txt", b"a"), comment=b"hidden"), tmp_path / "a.zip")


def test_what_stands_before_the_beginning_is_refused(tmp_path):
    with pytest.raises(NotAnArchive, match="does not begin"):
        read(b"#!/bin/sh\n" + packed(), tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil.toml", "leads out of the folder"),
        ("a/../../evil", "leads out of the folder"),
        ("..\\evil", "leads out of the folder"),
        ("..", "leads out of the folder"),
        ("/etc/passwd", "is absolute"),
        ("\\\\server\\share", "is absolute"),
        ("C:evil", "names a drive"),
        ("a\\b", "holds a backslash"),
        ("folder/file", "lies in a folder"),
        ("folder/", "lies in a folder"),
        ("a" * 101, "is too long"),
        (".hidden", "other characters"),
        ("sp ace", "other characters"),
        ("mödel", "other characters"),
        ("line\n", "other characters"),
        ("-rf", "other characters"),
    ],
)
def test_a_name_that_could_do_harm_is_refused_with_its_reason(name, said, tmp_path):
    with pytest.raises(UnsafeName, match=said):
        read(zipped((name, b"")), tmp_path / "a.zip")
    with pytest.raises(UnsafeName, match=said):
        packed({name: b""})


def test_a_nul_byte_in_a_name_is_refused(tmp_path):
    content = zipped(("modelXonnx", b"a")).replace(b"modelXonnx", b"model\0onnx")

    with pytest.raises(UnsafeName, match="NUL"):
        read(content, tmp_path / "a.zip")


@given(name=st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_a_file_is_called_only_plain_names_pass(name, tmp_path):
    try:
        content = zipped((zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), b"a"))
    except UnicodeEncodeError:
        return
    try:
        found = read(content, tmp_path / "a.zip")
    except PackageRefused:
        return
    assert set(found) == {name}
    assert name.isascii()
    assert not set(name) & set("/\\:\0 ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["model.onnx", "MODEL.onnx"])
def test_two_files_of_one_name_are_refused_whatever_the_case(second, tmp_path):
    with pytest.raises(DuplicateName, match=f"model.onnx and {second}"):
        read(zipped(("model.onnx", b"a"), (second, b"b")), tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFIFO, "no plain file"),
        (stat.S_IFCHR, "no plain file"),
        (stat.S_IFSOCK, "no plain file"),
    ],
)
def test_links_and_devices_are_refused(kind, said, tmp_path):
    info = zipfile.ZipInfo("model.onnx")
    info.external_attr = (kind | 0o777) << 16

    with pytest.raises(SpecialFile, match=said):
        read(zipped((info, b"/etc/shadow")), tmp_path / "a.zip")


def test_an_executable_file_is_not_as_we_write_it(tmp_path):
    info = zipfile.ZipInfo("model.onnx", (1980, 1, 1, 0, 0, 0))
    info.external_attr = (stat.S_IFREG | 0o4755) << 16

    with pytest.raises(HeadersDisagree, match="not as `nadi models pack` writes"):
        read(zipped((info, b"a")), tmp_path / "a.zip")


@pytest.mark.parametrize("flag", [0x01, 0x40], ids=["traditional", "strong"])
def test_an_encrypted_file_is_refused(flag, tmp_path):
    content = bytearray(packed())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 8, flag)

    with pytest.raises(EncryptedFile, match="never secret"):
        read(bytes(content), tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_file_is_refused_so_that_nothing_can_blow_up(method, tmp_path):
    bomb = zipfile.ZipInfo("model.onnx")
    bomb.compress_type = method
    content = zipped((bomb, bytes(64 * 2**20)))
    assert len(content) < 2**20

    with pytest.raises(CompressedFile, match="compressed"):
        read(content, tmp_path / "a.zip")


def test_a_claim_of_two_gigabytes_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(TooLarge, match=r"'model\.onnx' claims 2,048 MiB, at most 512 MiB"):
        read(claiming(TWO_GIB), tmp_path / "a.zip")


def test_many_files_that_claim_too_much_together_are_refused(tmp_path):
    parts = {f"part-{number}": b"" for number in range(5)}
    content = bytearray(packed(parts))
    place = content.index(b"PK\x01\x02")
    for _ in parts:
        struct.pack_into("<LL", content, place + 20, 300 * 2**20, 300 * 2**20)
        place = content.find(b"PK\x01\x02", place + 1)

    with pytest.raises(TooLarge, match="its files claim 1,500 MiB, at most 1,024 MiB"):
        read(bytes(content), tmp_path / "a.zip")


def test_a_file_of_two_gigabytes_is_refused_by_its_length_alone(tmp_path):
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.truncate(TWO_GIB)

    with pytest.raises(TooLarge, match="the package has 2,048 MiB"), archive.opened(path):
        pass


def test_refusing_a_claim_takes_no_memory_for_it(tmp_path):
    (tmp_path / "a.zip").write_bytes(claiming(TWO_GIB))
    script = (
        "import pathlib, resource, sys\n"
        "from models import archive, refusals\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    with archive.opened(pathlib.Path(sys.argv[1])): pass\n"
        "except refusals.TooLarge:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )

    command = [sys.executable, "-c", script, str(tmp_path / "a.zip")]
    grown_kib = int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert grown_kib < 16 * 1024


def test_too_many_files_are_refused_before_their_directory_is_read(tmp_path):
    many = zipped(*((f"file-{number}", b"") for number in range(1000)))

    with pytest.raises(TooManyFiles, match="claims 1000 files, at most 24"):
        read(many, tmp_path / "a.zip")
    with pytest.raises(TooManyFiles, match="more than 24"):
        packed({f"file-{number}": b"" for number in range(25)})


@pytest.mark.parametrize(
    ("offset", "field"),
    [
        (14, "crc"),
        (18, "compressed size"),
        (22, "size"),
        (30, "name"),
        (4, "version"),
        (10, "time"),
    ],
)
def test_a_local_header_that_contradicts_the_directory_is_refused(offset, field, tmp_path):
    content = bytearray(packed())
    content[offset] ^= 1

    with pytest.raises(HeadersDisagree, match=r"headers of manifest\.toml contradict"):
        read(bytes(content), tmp_path / field)


def test_a_file_that_overlaps_another_is_refused(tmp_path):
    content = bytearray(packed({"a.txt": b"abc", "b.txt": b"abc"}))
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, second + 42, 0)

    with pytest.raises(HeadersDisagree):
        read(bytes(content), tmp_path / "a.zip")


def test_a_gap_between_files_is_refused(tmp_path):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr(zipfile.ZipInfo("a.txt"), b"abc")
        target.write(b"hidden")
        made.start_dir = target.tell()

    with pytest.raises(HeadersDisagree, match="sizes in the package's headers"):
        read(target.getvalue(), tmp_path / "a.zip")


def test_extra_fields_are_refused(tmp_path):
    info = zipfile.ZipInfo("a.txt")
    info.extra = struct.pack("<HH4s", 0xCAFE, 4, b"more")

    with pytest.raises(HeadersDisagree):
        read(zipped((info, b"abc")), tmp_path / "a.zip")


def test_content_that_was_damaged_is_refused_naming_the_file(tmp_path):
    content = bytearray(packed())
    content[content.index(bytes(range(256))) + 7] ^= 1

    with pytest.raises(FileDamaged, match=r"model\.onnx was damaged"):
        read(bytes(content), tmp_path / "a.zip")


def test_a_file_is_not_read_when_it_is_larger_than_its_reader_wants(tmp_path):
    (tmp_path / "a.zip").write_bytes(packed())

    with archive.opened(tmp_path / "a.zip") as opened:
        with pytest.raises(TooLarge, match=r"model\.onnx has 1,024 bytes, at most 1,000 bytes"):
            opened.read("model.onnx", most=1000)
        with pytest.raises(FileMissing):
            opened.read("another.onnx")
