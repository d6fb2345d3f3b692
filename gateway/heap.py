"""Spare a process that runs for months the garbage collector's walks over what never goes away.

The code and the tables of the libraries are some hundred thousand objects. A full collection looks
at each of them, again and again, although none will ever be freed; what a batch makes is freed by
its reference counts, and the few cycles in it can wait for a while.

Source: Python 3 documentation, `gc.freeze`.
"""

import gc

#: Objects made, less those freed, between two looks at the youngest. The standard 700 is less
#: than what one micro-batch holds at a time.
_YOUNGEST = 20_000
_MIDDLE = 20
_OLDEST = 50


def settle() -> None:
    """Leave what is there now out of every later collection; call it once, when all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNGEST, _MIDDLE, _OLDEST)
