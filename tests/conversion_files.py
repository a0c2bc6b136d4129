"""SNANA-like files for the conversion tests, made from objects of the committed sample."""
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
ENDS = {"MJD": -777.0, "BAND": "-", "PHOTFLAG": 0, "FLUXCAL": -777.0, "FLUXCALERR": -777.0, "GAIN": 1.0,
        "SIM_MAGOBS": 99.0}
FORMS = {"MJD": "D", "BAND": "2A", "PHOTFLAG": "J", "GAIN": "E", "SIM_MAGOBS": "E"}


def sample(start=0, stop=None):
    """Objects of the sample as a DataFrame."""
    return pq.read_table(SAMPLE)[start:stop].to_pandas()


def columns_of(objects):
    """HEAD and PHOT columns, as dictionaries of name to (format, values), separators included."""
    counts = np.array([len(curve["MJD"]) for curve in objects["lightcurve"]], dtype=int)
    first = np.cumsum(np.append(0, counts + 1))[:-1] + 1
    head = {"SNID": ("16A", objects["SNID"].astype(str)), "RA": ("D", objects["RA"]), "DEC": ("D", objects["DEC"]),
            "SNTYPE": ("J", np.full(len(objects), 50)), "NOBS": ("J", counts), "PTROBS_MIN": ("J", first),
            "PTROBS_MAX": ("J", first + counts - 1), "MWEBV": ("E", objects["MWEBV"]),
            "SIM_MODEL_INDEX": ("I", np.full(len(objects), 7))}
    phot = {}
    for name, end in ENDS.items():
        curves = [np.append(curve.get(name, np.full(len(curve["MJD"]), end)), end) for curve in objects["lightcurve"]]
        phot[name] = FORMS.get(name, "E"), np.concatenate(curves or [[]])
    return head, phot


def write(path, columns):
    """Write a table as SNANA does: an empty primary HDU, then the table."""
    made = [fits.Column(name, form, array=np.asarray(values)) for name, (form, values) in columns.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(path, overwrite=True)


def write_pair(folder, stem, objects, change=None):
    """Write a pair; `change(head, phot)` may edit the columns before. The paths of HEAD and PHOT."""
    head, phot = columns_of(objects)
    if change:
        change(head, phot)
    paths = [Path(folder) / f"{stem}_{kind}.FITS.gz" for kind in ("HEAD", "PHOT")]
    for path, columns in zip(paths, (head, phot), strict=True):
        write(path, columns)
    return paths


def message(error, call, *args, **kwargs):
    """The one line a call must fail with."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert line and "\n" not in line
    return line


def contents(folder):
    """Bytes of each file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
