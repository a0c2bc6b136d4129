"""Build elasticc_hc/simulation/tables/spectra.npz from two packages that the library does not require at run time.

    pip download --no-deps speclite==1.0.0 saltshaker-sn==1.5 -d wheels
    python bench/build_tables.py wheels elasticc_hc/simulation/tables/spectra.npz

Contents: the LSST throughputs of 2023 (speclite, BSD-3-Clause; https://github.com/lsst/throughputs tag 1.9), binned to 5 nm,
and the components M0 and M1 of the extended SALT2 model with its colour law (saltshaker-sn, BSD; Guy et al. 2007, Pierel et al.
2018), binned to 20 A from 1,700 to 11,000 A. The same input gives the same bytes.
"""

import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

SPECLITE = "speclite-1.0.0-"
SALTSHAKER = "saltshaker_sn-1.5-"
PASSBAND_STEP = 50.0  # Angstrom
SURFACE_STEP = 20.0  # Angstrom
SURFACE_RANGE = 1700.0, 11000.0  # Angstrom, rest frame


def wheel(folder, prefix):
    """The wheel of this name in the folder."""
    found = sorted(Path(folder).glob(f"{prefix}*.whl"))
    if not found:
        raise FileNotFoundError(f"{folder} has no {prefix}*.whl: download it first, see the head of this script")
    return found[0]


def passbands(path):
    """Wavelengths (n,) in Angstrom and throughputs (6, n) of ugrizY, averaged in bins."""
    edges = np.arange(3000.0, 11501.0, PASSBAND_STEP)
    centres = (edges[1:] + edges[:-1]) / 2
    curves = []
    with zipfile.ZipFile(path) as archive:
        for band in "ugrizy":
            text = archive.read(f"speclite/data/filters/lsst2023-{band}.ecsv").decode()
            rows = [line for line in text.splitlines() if line[:1].isdigit()]
            wavelength, response = np.loadtxt(rows, unpack=True)
            fine = np.arange(3000.0, 11500.0, 1.0)
            sampled = np.interp(fine, 10 * wavelength, response, left=0, right=0)
            curves.append(sampled.reshape(len(centres), -1).mean(1))
    return centres, np.array(curves)


def surface(archive, component):
    """Phases (71,), wavelengths (n,) and the flux density (71, n) of one component of the extended SALT2 model."""
    grid = np.loadtxt(io.StringIO(archive.read(f"saltshaker/initfiles/salt2_ext_template_{component}.dat").decode()))
    phases, wavelengths = np.unique(grid[:, 0]), np.unique(grid[:, 1])
    flux = grid[:, 2].reshape(len(phases), len(wavelengths))
    inside = (wavelengths >= SURFACE_RANGE[0]) & (wavelengths < SURFACE_RANGE[1])
    per_bin = round(SURFACE_STEP / (wavelengths[1] - wavelengths[0]))
    return phases, wavelengths[inside].reshape(-1, per_bin).mean(1), flux[:, inside].reshape(len(phases), -1, per_bin).mean(2)


def tables(folder):
    """Every array of the table file."""
    wavelength, throughput = passbands(wheel(folder, SPECLITE))
    with zipfile.ZipFile(wheel(folder, SALTSHAKER)) as archive:
        phase, rest, m0 = surface(archive, 0)
        m1 = surface(archive, 1)[2]
        law = archive.read("saltshaker/initfiles/salt2_color_correction.dat").decode().split("\n")
    colour_law = np.array([float(line) for line in law[1:5]])
    scale = m0.max()
    return {
        "passband_wavelength": wavelength.astype("f4"), "passband_throughput": throughput.astype("f4"),
        "salt2_phase": phase.astype("f4"), "salt2_wavelength": rest.astype("f4"), "salt2_colour_law": colour_law,
        "salt2_m0": (m0 / scale).astype("f4"), "salt2_m1": (m1 / scale).astype("f4"),
    }  # fmt: skip


def write(path, arrays):
    """Write a compressed .npz without time stamps: the same arrays give the same bytes."""
    partial = Path(f"{path}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)
    os.replace(partial, path)


def main(folder, path):
    write(path, tables(folder))
    data = Path(path).read_bytes()
    print(json.dumps({"file": Path(path).name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: build_tables.py FOLDER_OF_WHEELS TABLE.npz")
    main(*sys.argv[1:])
