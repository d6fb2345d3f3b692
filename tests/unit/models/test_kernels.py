import pytest

from models.kernels import cpu_kernel_class, kernel_class_of, needs_exact_int8


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fma avx2 avx512f avx512_vnni avx_vnni", "avx512-vnni"),
        ("avx2 avx_vnni", "avx-vnni"),
        ("avx2 avx512f", "avx512"),
        ("sse4_2 avx avx2", "avx2"),
        ("sse4_2", "other"),
    ],
)
def test_the_best_kernels_of_a_cpu_are_told_from_its_flags(flags, expected):
    assert kernel_class_of(f"processor : 0\nflags\t\t: {flags}\nbugs\t: none\n") == expected


def test_a_cpu_that_does_not_tell_is_of_another_kind():
    assert kernel_class_of("Features : neon\n") == "other"
    assert cpu_kernel_class() in {"avx512-vnni", "avx-vnni", "avx512", "avx2", "other"}


def test_exact_kernels_are_needed_where_the_best_ones_may_saturate():
    saturating = cpu_kernel_class() in {"avx512", "avx2"}

    assert needs_exact_int8() or not saturating
