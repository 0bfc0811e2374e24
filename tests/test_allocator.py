import os
import platform
import subprocess
import sys

import pytest

BLOCK = 2**26  # bytes, above what glibc ever keeps by itself
FAULTS = "resource.getrusage(resource.RUSAGE_SELF).ru_minflt"


def run(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | environment
    ).stdout.strip()


def page_faults(imports):
    """Return the page faults of filling and freeing a block twenty times, after a first time."""
    once = f"b'x' * len(range({BLOCK}))"  # no constant that is made while compiling
    again = f"before = {FAULTS}\nfor _ in range(20): {once}\nprint({FAULTS} - before)"
    return int(run(f"import {imports}\n{once}\n{again}"))


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are"
)
def test_a_block_that_was_freed_is_not_fetched_from_the_system_again():
    assert page_faults("lib, resource") < page_faults("resource") / 5


def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise():
    code = "import os, lib; print(os.environ['GOMP_SPINCOUNT'])"
    assert run(code, GOMP_SPINCOUNT="7") == "7"
    assert run(f"import os; os.environ.pop('GOMP_SPINCOUNT', None); {code}") == "1000"
