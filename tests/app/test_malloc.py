"""Threads share the arenas of glibc's malloc."""

import ctypes
import os
import subprocess
import sys

THREADS = """
import ctypes, sys, threading
from app.malloc import limit_arenas
limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fdopen.restype = ctypes.c_void_p, ctypes.c_void_p
barrier = threading.Barrier(16)
def allocate():
    barrier.wait()
    for _ in range(100):
        libc.malloc(ctypes.c_size_t(5000))
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
output = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, output)
libc.fflush(output)
"""


def test_sixteen_threads_allocate_from_two_arenas() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_info"):  # not glibc: nothing to limit
        return
    variables = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", THREADS]
    info = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert 1 <= info.count("<heap nr=") <= 2
