"""An app that says how many arenas glibc's allocator has in its process, once four threads have allocated at once."""

from __future__ import annotations

import ctypes
import tempfile
import threading

from stepwire_server import App

__all__ = ["app", "arenas"]

app = App("arenas")


@app.operation()
def arenas() -> int:
    """Count the arenas. Raises AttributeError where the C library is another one."""
    library = ctypes.CDLL(None)
    library.malloc.restype = library.fopen.restype = ctypes.c_void_p
    met = threading.Barrier(4)

    def allocate() -> None:
        library.free(ctypes.c_void_p(library.malloc(100_000)))
        met.wait(10)

    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with tempfile.NamedTemporaryFile() as told:
        file = ctypes.c_void_p(library.fopen(told.name.encode(), b"w"))
        library.malloc_info(0, file)
        library.fclose(file)
        return told.read().count(b"<heap nr=")
