"""A test is a function whose name is a sentence. Counts as the other runners of tests/ do."""

import sys
import traceback

_passed, _failed = [], []


def check(name, test, *args):
    """Runs one test, and says how it went."""
    try:
        test(*args)
    except Exception:  # noqa: BLE001: a failed test must not end the run
        _failed.append(name)
        print(f"FAILED  {name}")
        traceback.print_exc(limit=-4, file=sys.stdout)
    else:
        _passed.append(name)
        print(f"ok      {name}")
    sys.stdout.flush()


def run(tests):
    """Runs functions by their names."""
    for test in tests:
        check(test.__name__.replace("_", " "), test)


def failed():
    """Whether a test failed so far."""
    return bool(_failed)


def finish():
    """Prints the line that tests/run.sh counts, and ends the process."""
    print(f"{len(_passed)} passed, {len(_failed)} failed")
    sys.exit(1 if _failed else 0)


def equal(found, expected, what=""):
    """Fails where two values differ."""
    assert found == expected, f"{what}\n  found    {found!r}\n  expected {expected!r}"
