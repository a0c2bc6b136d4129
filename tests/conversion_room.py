"""Converts and combines where no file may grow beyond a limit: python conversion_room.py FOLDER FILE LIMIT...

FOLDER holds in/ (SNANA files) and old/ (a conversion of them), FILE is a Parquet file of objects. Prints, as JSON, the
errors at each limit in bytes. A process of its own, since the limit holds for everything that a process writes.
"""
import json
import resource
import sys
from pathlib import Path

from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.conversion.train_test_split import combine


def attempt(limit, call, *args, **kwargs):
    """The message of the OSError that a call ends with, None where it ends well."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        call(*args, **kwargs)
    except OSError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def main(folder, file, *limits):
    """All calls at all limits."""
    place = Path(folder)
    print(json.dumps([[attempt(limit, convert, place / "in", place / "new"),
                       attempt(limit, convert, place / "in", place / "old", overwrite=True),
                       attempt(limit, convert, place / "in", place / "new", on_error="skip"),
                       attempt(limit, combine, file, place / "split")] for limit in map(int, limits)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
