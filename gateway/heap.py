"""Let a process that runs for months hold no memory, and do no work, for what was only its start.

The code and the tables of the libraries are some hundred thousand objects. A full collection looks
at each of them, again and again, although none will ever be freed; what a batch makes is freed by
its reference counts, and the few cycles in it can wait for a while.

What opening models and reading schemas took and gave back lies between what is kept: the C library
holds on to it, 10 to 35 MB in a process that opened models, until it is asked to return it.

Source: Python 3 documentation, `gc.freeze`; malloc_trim(3).
"""

import contextlib
import ctypes
import gc

#: Objects made, less those freed, between two looks at the youngest. The standard 700 is less
#: than what one micro-batch holds at a time.
_YOUNGEST = 20_000
_MIDDLE = 20
_OLDEST = 50


def settle() -> None:
    """Leave what is there now out of every later collection; call it once, when all is loaded."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another libc than glibc
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()
    gc.set_threshold(_YOUNGEST, _MIDDLE, _OLDEST)
