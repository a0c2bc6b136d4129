"""Damages SNANA files in many ways and sees that the conversion ends in the right result or in one clear line.

    python tests/conversion_fuzz.py 2000 [SEED]    so many cases; prints how they ended

Right means: what astropy reads from the same damaged files, object by object, by the pointers or the separators that the
account says were used. Every case has an undamaged pair beside the damaged one, which must come through where the bad pair
is left out.
"""
import gzip
import io
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from conversion_files import sample, write_pair

from elasticc_hc.conversion.fits import MAX_BYTES
from elasticc_hc.conversion.snana_to_parquet import convert

SECONDS = 20   # no case may take longer
MEGABYTES = 700  # no more memory may ever be in use
COLUMNS = ("MJD", "BAND", "PHOTFLAG", "FLUXCAL", "FLUXCALERR")


class Base:
    """Two small pairs as bytes: the one to damage, and the one beside it."""

    def __init__(self, place):
        objects = sample().sample(frac=1, random_state=0)
        counts = objects["lightcurve"].map(lambda curve: len(curve["MJD"]))
        objects = objects[counts < 150][:12]
        self.pair = [path.read_bytes() for path in write_pair(place / "base", "A-0001", objects[:6])]
        self.other = [path.read_bytes() for path in write_pair(place / "base", "A-0002", objects[6:])]
        bomb = gzip.compress(bytes(1 << 20), 9)
        self.small_bomb, self.bomb = bomb * 40, bomb * (MAX_BYTES // (1 << 20) + 20)


# ---- ways to damage a pair: each takes the bytes of HEAD and PHOT, gives them back changed -------------------------
def flip(data, rng):
    """Flip a few bits."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncate(data, rng):
    """Cut the end off, or put something behind it."""
    if rng.random() < 0.2:
        return data + rng.choice((bytes(100), b"\x1f\x8b", data, data[: len(data) // 2], rng.randbytes(50)))
    return data[: rng.choice((0, 1, 2, 10, len(data) - 1, rng.randrange(len(data)), rng.randrange(len(data))))]


def either(change):
    """Damage HEAD or PHOT, zipped or plain."""
    def damage(base, rng):
        files = [gzip.decompress(data) if plain else data for plain in [rng.random() < 0.5] for data in base.pair]
        i = rng.randrange(2)
        files[i] = change(files[i], rng)
        return files
    return damage


def header(base, rng):
    """Change characters of a header."""
    files = list(base.pair)
    i = rng.randrange(2)
    data = bytearray(gzip.decompress(files[i]))
    end = 2880 * rng.choice((1, 2, 3))
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[rng.randrange(end)] = rng.choice(b"0123456789-EDJIAK'= /\0\xff")
    files[i] = gzip.compress(bytes(data), 1)
    return files


def axis(base, rng):
    """Another number of rows, of bytes in a row, or of columns."""
    files = list(base.pair)
    i = rng.randrange(2)
    data = gzip.decompress(files[i])
    key = rng.choice((b"NAXIS1", b"NAXIS2", b"NAXIS2", b"TFIELDS", b"NAXIS ", b"PCOUNT", b"BITPIX"))
    at = data.find(key.ljust(8) + b"=", 2880)
    value = rng.choice((-1, 0, 1, 3, 7, 1000, 2**31, 10**12, 10**18))
    files[i] = gzip.compress(data[: at + 10] + str(value).rjust(20).encode() + data[at + 30 :], 1)
    return files


def swap(base, rng):
    """Files in each other's place."""
    return rng.choice((base.pair[::-1], [base.pair[0], base.other[1]], [base.other[0], base.pair[1]],
                       [base.pair[0]] * 2, [base.pair[1]] * 2))


def bomb(base, rng):
    """A file that inflates to more than it seems."""
    files = list(base.pair)
    i = rng.randrange(2)
    huge = base.bomb if rng.random() < 0.05 else base.small_bomb
    files[i] = rng.choice((huge, files[i] + huge))
    return files


def rewritten(change):
    """Change the columns and write the pair anew; `change(head, phot, rng)` edits two structured arrays."""
    def damage(base, rng):
        opened = [fits.open(io.BytesIO(gzip.decompress(data))) for data in base.pair]
        tables = [np.array(hdus[1].data) for hdus in opened]
        change(*tables, rng)
        files = []
        for table in tables:
            written = io.BytesIO()
            fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto(written)
            files.append(gzip.compress(written.getvalue(), 1))
        return files
    return damage


def counts(head, phot, rng):
    """NOBS and pointers that are wrong."""
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(("NOBS", "PTROBS_MIN", "PTROBS_MAX"))
        i = rng.randrange(len(head))
        head[name][i] = rng.choice((int(head[name][i]) + 1, int(head[name][i]) - 1, 0, -1, 2**31 - 10, -(2**31), 10**6))


def consistent_counts(head, phot, rng):
    """Pointers of one object moved as a whole, or of two exchanged."""
    i, j = rng.sample(range(len(head)), 2)
    if rng.random() < 0.5:
        head["PTROBS_MIN"][i] += 2
        head["PTROBS_MAX"][i] += 2
    else:
        for name in ("NOBS", "PTROBS_MIN", "PTROBS_MAX"):
            head[name][[i, j]] = head[name][[j, i]]


def not_finite(head, phot, rng):
    """NaN and infinity, and times out of order."""
    name = rng.choice(("MJD", "FLUXCAL", "FLUXCALERR"))
    phot[name][rng.randrange(len(phot))] = rng.choice((np.nan, np.inf, -np.inf, -777.0, 0.0, 1e30))


def snids(head, phot, rng):
    """Names that are empty, twice there, or no text."""
    i, j = rng.sample(range(len(head)), 2)
    head["SNID"][i] = rng.choice((head["SNID"][j], b"", b"   ", b"\xff\xfe", b"NULL", b"0" * 16))


def bands(head, phot, rng):
    """Passbands as other surveys write them."""
    phot["BAND"][rng.randrange(len(phot)) :: rng.choice((1, 3))] = rng.choice((b"L", b"", b"y ", b"\xff", b"\0r", b"--"))


def long_bands(base, rng):
    """Passbands of twenty characters."""
    opened = [fits.open(io.BytesIO(gzip.decompress(data))) for data in base.pair]
    columns = opened[1][1].columns
    prefix = rng.choice(("LSST-", "LSST-LSST-", "CSP-", "DES-g/", " "))
    named = np.array([prefix + band if band != "-" else band for band in opened[1][1].data["BAND"]])
    made = [fits.Column("BAND", "20A", array=named) if c.name == "BAND" else fits.Column(c.name, c.format, array=c.array)
            for c in columns]
    written = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(written)
    return [base.pair[0], gzip.compress(written.getvalue(), 1)]


DAMAGES = {"bit flips": either(flip), "truncated": either(truncate), "header": header, "axes": axis, "swapped": swap,
           "gzip bomb": bomb, "counts": rewritten(counts), "pointers": rewritten(consistent_counts),
           "not finite": rewritten(not_finite), "SNID": rewritten(snids), "bands": rewritten(bands), "long bands": long_bands}


# ---- what is right -------------------------------------------------------------------------------------------------
def text(value):
    """A text cell as astropy gives it, up to the first NUL."""
    value = value if isinstance(value, bytes) else str(value).encode()
    return value.partition(b"\0")[0].decode().strip()


def table_of(path, undamaged):
    """The table of a file; where astropy refuses its header, the rows behind the undamaged one."""
    data = path.read_bytes()
    data = zlib.decompressobj(31).decompress(data) if data[:2] == b"\x1f\x8b" else data
    new = io.BytesIO()
    fits.PrimaryHDU().writeto(new)
    try:
        table = fits.getdata(io.BytesIO(new.getvalue() + data[data.index(b"XTENSION= 'BINTABLE'"):]), 1)
        if "MJD" not in table.dtype.names and "SNID" not in table.dtype.names:
            raise KeyError
        return table
    except (IndexError, ValueError, OSError, TypeError, KeyError, OverflowError, AttributeError, fits.VerifyError):
        at = data.index(b"NAXIS2  =") + 10
        if int(data[at:at + 20]) == 0:  # astropy does not hand out a table without rows
            return np.recarray(0, fits.getdata(io.BytesIO(gzip.decompress(undamaged)), 1).dtype)
        return fits.getdata(io.BytesIO(gzip.decompress(undamaged)[:2 * 2880] + data[2 * 2880:]), 1)


def expected(paths, undamaged, source):
    """What the files hold, read object by object: {SNID: columns}, and the number of rows that are no separators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head, phot = map(table_of, paths, undamaged)
        mjd = np.asarray(phot["MJD"], float)
    ends = np.flatnonzero(mjd == -777)
    ends = ends if len(ends) and ends[-1] == len(mjd) - 1 else np.append(ends, len(mjd))
    found, start = {}, 0
    for i, row in enumerate(head):
        if source == "pointers":
            rows = np.arange(row["PTROBS_MIN"] - 1, row["PTROBS_MAX"])
        else:
            rows, start = np.arange(start, ends[i]), ends[i] + 1
        assert len(rows) == row["NOBS"], "rows that NOBS does not count"
        rows = rows[np.argsort(mjd[rows], kind="stable")]
        found[text(row["SNID"])] = {name: np.asarray(phot[name])[rows] for name in COLUMNS}
    return found, int((mjd != -777).sum())


def check(report, out, paths, undamaged):
    """Compare a result with what the files hold."""
    account = next(pair for pair in report["pairs"] if pair["head"] == str(paths[0]))
    want, rows = expected(paths, undamaged, account["rows_from"])
    lost = sum(entry["observations"] for entry in account.get("left_out", []))
    assert account["objects_in"] == len(want) and account["observations_in"] == rows
    assert account["observations_out"] == sum(len(curve["MJD"]) for curve in want.values()) == rows - lost
    got = {row["SNID"]: row["lightcurve"] for row in pq.read_table(out / "EB.parquet").to_pylist()}
    for snid, curve in want.items():
        for name in COLUMNS:
            values = curve[name]
            if name == "BAND":
                values = [text(value).removeprefix("LSST-") for value in values]
            assert np.array_equal(got[snid][name], values), f"{snid}: {name} differs"


@contextmanager
def time_limit():
    """End a case that hangs."""
    def too_long(number, frame):
        raise TimeoutError("took too long")
    old = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def clear(error, place):
    """Is the error one line that names a file?"""
    line = str(error)
    assert type(error) in (ValueError, FileNotFoundError), repr(error)
    assert line and "\n" not in line and str(place) in line and len(line) < 600, f"not a clear line: {line!r}"


def one(base, place, damage, rng):
    """One case; how it ended."""
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "in" / "RUN_EB"
    folder.mkdir(parents=True)
    paths = [folder / f"A-0001_{kind}.FITS.gz" for kind in ("HEAD", "PHOT")]
    files = DAMAGES[damage](base, rng)
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    for kind, data in zip(("HEAD", "PHOT"), base.other, strict=True):
        (folder / f"A-0002_{kind}.FITS.gz").write_bytes(data)
    try:
        with time_limit():
            report = convert(place / "in", place / "out")
    except (ValueError, OSError) as error:
        clear(error, place)
        assert [path.name for path in place.iterdir()] == ["in"], "something is left"
    else:
        check(report, place / "out", paths, base.pair)
        return "right"
    with time_limit():
        report = convert(place / "in", place / "out", on_error="skip")
    beside = report["pairs"][1]
    assert beside["objects_out"] == beside["objects_in"] - len(beside.get("repeated", [])) and beside["objects_in"] == 6
    assert report["total"]["objects_out"] >= 6 and "left_out" in str(report)
    return "one line"


def peak_megabytes():
    """Most memory of this program so far; the system's own count would include that of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fuzz(n, seed):
    """So many cases; a count of how they ended, by damage. An AssertionError names the case that failed."""
    ends = Counter()
    place = Path(tempfile.mkdtemp())
    base = Base(place)
    for case in range(n):
        damage = list(DAMAGES)[case % len(DAMAGES)]
        try:
            ends[damage, one(base, place / "case", damage, random.Random(f"{seed} {case}"))] += 1
        except BaseException as error:
            raise AssertionError(f"case {case} of seed {seed} ({damage}): {error!r}; files in {place / 'case'}") from error
    used = peak_megabytes()
    shutil.rmtree(place)
    return ends, used


if __name__ == "__main__":
    cases, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    ended, megabytes = fuzz(cases, first)
    for (name, how), number in sorted(ended.items()):
        print(f"{name:12} {how:10} {number:6}")
    print(f"{sum(ended.values())} cases, {megabytes} MB at most")
    assert megabytes < MEGABYTES, f"{megabytes} MB in use at one time"
