"""Memory that nothing uses any more goes back to the system."""

import ctypes


def give_back() -> None:
    """Hand free pages of the C library's heap back to the system, where that is glibc.

    Training takes and frees arrays of all sizes, and what is kept in between pins the heap: without this a run that has
    learned often holds more and more memory that nothing uses.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
