"""Speed and memory of the conversion of SNANA files to Parquet, compared with a common method, on the same files.

    python bench/conversion.py                 speed: one JSON line per result
    python bench/conversion.py --memory 4 40   peak memory at 4 and at 40 pairs of 5,000 objects

The common method is `sncosmo.read_snana_fits`, one record per object, written with pyarrow. It is timed if sncosmo is
installed (`pip install sncosmo`), and otherwise omitted with a note. All times are CPU time, one thread. The methods are
timed alternately; a ratio is the median over the rounds of the ratio within a round.
"""
import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from elasticc_hc.conversion.fits import inflate
from elasticc_hc.conversion.snana_to_parquet import convert

BANDS = "ugrizY"
HOST = ("OBJID:K FLAG:I PHOTOZ PHOTOZ_ERR SPECZ SPECZ_ERR RA:D DEC:D SNSEP DDLR LOGMASS LOGMASS_ERR LOGSFR LOGSFR_ERR "
        "LOGsSFR LOGsSFR_ERR COLOR COLOR_ERR ELLIPTICITY OBJID2:K SQRADIUS OBJID_UNIQUE:K "
        + " ".join(f"ZPHOT_Q{10 * i:03d}" for i in range(11)) + " "
        + " ".join(f"{name}_{band}" for name in ("MAG", "MAGERR") for band in BANDS))
HEAD = ("IAUC:16A FAKE:I RA:D DEC:D PIXSIZE NXPIX:I NYPIX:I SNTYPE:J MWEBV MWEBV_ERR REDSHIFT_HELIO REDSHIFT_HELIO_ERR "
        "REDSHIFT_FINAL REDSHIFT_FINAL_ERR VPEC VPEC_ERR HOSTGAL_NMATCH:I HOSTGAL_NMATCH2:I "
        + " ".join(f"{host}_{name}" for host in ("HOSTGAL", "HOSTGAL2") for name in HOST.split()) + " "
        + " ".join(f"HOSTGAL_SB_FLUXCAL_{band}" for band in BANDS)
        + " PEAKMJD MJD_TRIGGER MJD_DETECT_FIRST MJD_DETECT_LAST SEARCH_TYPE:J SIM_MODEL_NAME:32A SIM_MODEL_INDEX:I "
        "SIM_TYPE_INDEX:I SIM_TYPE_NAME:8A SIM_TEMPLATE_INDEX:J SIM_LIBID:J SIM_NGEN_LIBID:J SIM_NOBS_UNDEFINED:J "
        "SIM_SEARCHEFF_MASK:J SIM_REDSHIFT_HELIO SIM_REDSHIFT_CMB SIM_REDSHIFT_HOST SIM_REDSHIFT_FLAG:I SIM_VPEC "
        "SIM_HOSTLIB_GALID:K SIM_DLMU SIM_LENSDMU SIM_RA:D SIM_DEC:D SIM_MWEBV SIM_PEAKMJD SIM_MJD_EXPLODE "
        "SIM_MAGSMEAR_COH SIM_AV SIM_RV "
        + " ".join(f"SIM_{name}_{band}" for name in ("PEAKMAG", "EXPOSURE", "GALFRAC") for band in BANDS)
        + " SIM_SUBSAMPLE_INDEX:I")


def head_column(form, n, rng):
    """Values of a HEAD column: constant text, few distinct integers, random floats."""
    if form.endswith("A"):
        return np.full(n, "NULL")
    return rng.integers(0, 30, n) if form in "IJ" else rng.integers(0, 2**40, n) if form == "K" else rng.normal(size=n)


def phot_columns(counts, rng):
    """Columns of PHOT with a separator row after each object, as (name, format, values)."""
    n, last = int(counts.sum() + len(counts)), np.cumsum(counts + 1) - 1
    owner = np.repeat(np.arange(len(counts)), counts + 1)
    mjd = rng.uniform(60275, 61380, n)
    mjd = mjd[np.lexsort((mjd, owner))].round(4)
    band = rng.choice([*BANDS], n, p=[0.07, 0.1, 0.22, 0.22, 0.2, 0.19])
    sky, zero = rng.normal(60, 9, n), rng.normal(32, 0.3, n)
    flux, error = rng.normal(0, 30, n), rng.lognormal(2, 0.7, n)
    flag = rng.choice([0, 4096], n, p=[0.95, 0.05])
    for values, end in ((mjd, -777), (band, "-"), (flux, -777), (error, -777)):
        values[last] = end
    fixed = {"CCDNUM": ("I", -9), "FIELD": ("12A", "VOID"), "PHOTPROB": ("E", -9), "PSF_SIG2": ("E", 0),
             "PSF_RATIO": ("E", 0), "SKY_SIG_T": ("E", 0), "RDNOISE": ("E", 0.25), "ZEROPT_ERR": ("E", 0.005),
             "GAIN": ("E", 1), "XPIX": ("E", -9), "YPIX": ("E", -9), "SIM_FLUXCAL_HOSTERR": ("E", 0)}
    return [("MJD", "D", mjd), ("BAND", "2A", band), ("PHOTFLAG", "J", flag), ("FLUXCAL", "E", flux),
            ("FLUXCALERR", "E", error), ("PSF_SIG1", "E", rng.normal(2, 0.2, n).round(3)), ("SKY_SIG", "E", sky.round(2)),
            ("ZEROPT", "E", zero.round(3)), ("SIM_MAGOBS", "E", rng.normal(26, 2, n)),
            *((name, form, np.full(n, value)) for name, (form, value) in fixed.items())]


def write_pair(folder, index, objects, level=6, seed=0):
    """Write one pair of `objects` objects with about 150 observations each; the two paths."""
    rng = np.random.default_rng([seed, index])
    counts = np.clip(rng.lognormal(4.9, 0.45, objects), 5, 1500).astype(int)
    first = np.cumsum(np.append(0, counts + 1))[:-1] + 1
    head = [("SNID", "16A", (index * objects + np.arange(objects)).astype(str)), ("NOBS", "J", counts),
            ("PTROBS_MIN", "J", first), ("PTROBS_MAX", "J", first + counts - 1)]
    for entry in HEAD.split():
        name, _, form = entry.partition(":")
        head.append((name, form or "E", head_column(form or "E", objects, rng)))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"BENCH-{index:04d}_{kind}.FITS.gz" for kind in ("HEAD", "PHOT")]
    for path, columns in zip(paths, (head, phot_columns(counts, rng)), strict=True):
        hdu = fits.BinTableHDU.from_columns([fits.Column(*column[:2], array=column[2]) for column in columns])
        with gzip.open(path, "wb", level) as opened:
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(opened)
    return paths


def usual_recipe(head, phot, out):
    """Common method: one table per object, one record per table, all records to Parquet."""
    import sncosmo
    records = []
    for table in sncosmo.read_snana_fits(str(head), str(phot)):
        record = {name: value.item() if hasattr(value, "item") else value for name, value in table.meta.items()}
        record |= {name: table[name].tolist() for name in table.colnames}
        records.append(record)
    pq.write_table(pa.Table.from_pylist(records), out, compression="zstd")


def cpu(task, *args, **kwargs):
    """CPU seconds of a call."""
    start = time.process_time()
    task(*args, **kwargs)
    return time.process_time() - start


def machine():
    """Date, processor and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {"date": date.today().isoformat(), "cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(),
            "python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}


def contestants(place, head, phot):
    """The timed methods, by name."""
    def ours(**options):
        return lambda: convert(place / "in", place / "out", overwrite=True, **options)
    tasks = {"inflate only": lambda: [inflate(path) for path in (head, phot)],
             "inflate only, zlib": lambda: [zlib.decompress(path.read_bytes(), 31) for path in (head, phot)],
             "convert": ours(), "convert --all-columns": ours(all_columns=True)}
    try:
        import sncosmo  # noqa: F401
        tasks["sncosmo recipe"] = lambda: usual_recipe(head, phot, place / "usual.parquet")
    except ImportError as error:
        print(json.dumps({"name": "sncosmo recipe", "skipped": str(error)}))
    return tasks


def speed(objects, rounds):
    """Time all methods alternately and print their medians and the median ratios."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        tasks = contestants(place, *write_pair(place / "in" / "BENCH_SNIa-SALT3", 1, objects))
        times = np.array([[cpu(task) for task in tasks.values()] for _ in range(rounds)])
    names = list(tasks)
    print(json.dumps(machine() | {"objects": objects, "rounds": rounds}))
    for name, seconds in zip(names, times.T, strict=True):
        line = {"name": name, "cpu_s": round(float(np.median(seconds)), 4),
                "objects_per_cpu_s": round(objects / float(np.median(seconds)))}
        for other in ("inflate only", "inflate only, zlib"):
            line[f"times {other}"] = round(float(np.median(seconds / times[:, names.index(other)])), 2)
        if "sncosmo recipe" in names:
            line["times faster than the recipe"] = round(float(np.median(times[:, -1] / seconds)), 1)
        print(json.dumps(line))


def memory(pairs, objects):
    """Convert and combine, each in a fresh process, and print its peak memory (Linux: VmHWM)."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for i in range(pairs):
            write_pair(place / "in" / f"BENCH_M{i % 4}", i, objects, level=1)
        for name, code in {
            "convert": "from elasticc_hc.conversion.snana_to_parquet import convert; convert(a + '/in', a + '/out')",
            "combine": "from elasticc_hc.conversion.train_test_split import combine; combine(a + '/out', a + '/split')"}.items():
            script = f"import sys; a = sys.argv[1]; {code}; print(open('/proc/self/status').read())"
            start = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([sys.executable, "-c", script, str(place)], check=True, capture_output=True, text=True)
            end = resource.getrusage(resource.RUSAGE_CHILDREN)
            print(json.dumps({"name": f"{name}, memory", "pairs": pairs, "objects": pairs * objects,
                              "peak_MB": int(done.stdout.split("VmHWM:")[1].split()[0]) // 1024,
                              "cpu_s": round(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime, 1)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, help="objects in a pair: 2000 for speed, 5000 for memory")
    parser.add_argument("--rounds", type=int, default=9, help="repetitions of each method")
    parser.add_argument("--memory", type=int, nargs="+", metavar="PAIRS", help="measure peak memory for these numbers of pairs")
    given = parser.parse_args()
    if given.memory:
        print(json.dumps(machine()))
        for count in given.memory:
            memory(count, given.objects or 5000)
    else:
        speed(given.objects or 2000, given.rounds)
