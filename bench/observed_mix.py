"""The prior "observed": number of objects of each class in three years of LSST alerts for ELAsTiCC's rates.

    python bench/observed_mix.py > bench/results/observed_mix.jsonl

For each leaf, objects = (events in three years) x (fraction that is detected).

Events: the rates of ELAsTiCC's configuration (github.com/LSSTDESC/elasticc, model_config/ and survey_config/). A volumetric rate
is integrated over the comoving volume of the wide survey, 5.694 sr, and over the 1,230 days in which maxima are generated. Stars,
microlensing and AGN have no volumetric rate there; the configuration gives the number of objects. Both kilonova models have the
full rate of neutron-star mergers (320 per Gpc^3 and year, Abbott et al. 2021); here each has half of it.

Detected fraction: of ELAsTiCC 2's own simulation, as objects in TRAIN_02 over light curves generated (NGENTOT_LC) in the master
file of the run TRAIN_01_1percent. The two runs differ in size, so the fraction is known up to a factor, the same for all classes,
which does not affect the prior. (Of the flares, 27 are in the small run and 2,655 in TRAIN_02.) Only the counts of whole classes
are published, so the models of a class have one fraction. The count of AGN is a lower limit.

Prints a JSON line about the machine and one per leaf, with its fraction of all objects. For explosions, `explosions` is the
fraction among explosions only, and `simulator` the same with the fractions that this package's simulator detects, for comparison
only. The fractions are in elasticc_hc/priors/observed.yaml.
"""

import json
import os
import platform
from collections import defaultdict
from datetime import date

import numpy as np
from astropy.cosmology import FlatLambdaCDM

from elasticc_hc.loss.calibration import prior_table
from elasticc_hc.simulation.population import CHUNK_SIZE, MODELS, Model, redshift_horizon, star_formation_rate, survey_sky
from elasticc_hc.simulation.simulator import simulate_chunk
from elasticc_hc.taxonomy.taxonomy import Taxonomy

STERADIANS, YEARS = 5.694, 1230 / 365.25
TODAY = float(star_formation_rate(0.0))
RATES = {  # factor on the rate of `MODELS`, which gives events per year and cubic megaparsec
    "SNIa-SALT3": 1, "SNIa-91bg": 3e-6 / 2.5e-5, "SNIax": 6e-6 / TODAY,
    "SNIb-Templates": 0.054, "SNIb+HostXT_V19": 0.054, "SNIc-Templates": 0.0375, "SNIc+HostXT_V19": 0.0375,
    "SNIcBL+HostXT_V19": 0.011, "SNII-NMF": 0.162, "SNII-Templates": 0.162, "SNII+HostXT_V19": 0.325, "SNIIn-MOSFIT": 0.0235,
    "SNIIn+HostXT_V19": 0.0235, "SNIIb+HostXT_V19": 0.109, "SLSN-I+host": 2e-8 / TODAY, "SLSN-I_no_host": 2e-8 / TODAY,
    "TDE": 1e-6, "ILOT": 0.06, "CART": 2.3e-6 / TODAY, "KN_K17": 1.6e-7, "KN_B19": 1.6e-7, "PISN": 1e-9,
}  # fmt: skip
GENERATED = {  # objects of ELAsTiCC without a volumetric rate
    "CLAGN": 175_000, "RRL": 50_000, "Mdwarf-flare": 10_000_000, "EB": 220_000, "dwarf-nova": 10_000, "uLens-Single_PyLIMA": 1400,
    "uLens-Single-GenLens": 1400, "uLens-Binary": 1000, "Cepheid": 10_000, "d-Sct": 10_000,
}  # fmt: skip
NGENTOT_LC = {  # light curves generated for TRAIN_01_1percent
    "KN_K17": 8333, "KN_B19": 2083, "SLSN-I+host": 5558, "SLSN-I_no_host": 1057, "PISN": 12280, "ILOT": 81886, "CART": 89693,
    "TDE": 9417, "CLAGN": 4234, "RRL": 536, "Mdwarf-flare": 100_000, "EB": 4770, "uLens-Binary": 277, "uLens-Single_PyLIMA": 476,
    "uLens-Single-GenLens": 476, "Cepheid": 3703, "d-Sct": 834, "dwarf-nova": 929, "SNIIn-MOSFIT": 81695, "SNIIn+HostXT_V19": 13537,
    "SNII-NMF": 89669, "SNII-Templates": 186_938, "SNII+HostXT_V19": 81281, "SNIb-Templates": 116_949, "SNIb+HostXT_V19": 54158,
    "SNIc-Templates": 97822, "SNIc+HostXT_V19": 43053, "SNIcBL+HostXT_V19": 17897, "SNIIb+HostXT_V19": 137_639,
    "SNIa-SALT3": 43783, "SNIa-91bg": 34272, "SNIax": 177_690,
}  # fmt: skip
CHUNKS = 50  # of 2,000 candidates of a model


def events(model: Model, bounds: tuple) -> float:
    "Events of a volumetric rate between two redshifts in the wide survey, in the years of the simulation."
    z = np.linspace(*bounds, 2000)
    volume = FlatLambdaCDM(H0=70, Om0=0.315).differential_comoving_volume(z).value
    return RATES[model.name] * STERADIANS * YEARS * np.trapezoid(model.rate(z) * volume / (1 + z), z)


def simulated(model: Model) -> float:
    "Detected objects with the fraction that this package's simulator detects, of candidates up to its horizon."
    sky = survey_sky()
    detected = sum(len(simulate_chunk(model, sky, number)) for number in range(CHUNKS))
    return events(model, (model.redshift[0], redshift_horizon(model, False))) * detected / (CHUNKS * CHUNK_SIZE)


def shares(objects: dict) -> dict:
    "Fractions with four digits."
    return {leaf: float(f"{number / sum(objects.values()):.4g}") for leaf, number in objects.items()}


def main():
    taxonomy = Taxonomy.from_yaml("elasticc2")
    counts = prior_table("elasticc2")
    leaves = np.array(taxonomy.nodes)[taxonomy.node_of(list(MODELS))]
    happened, generated, simulator = defaultdict(float), defaultdict(int), defaultdict(float)
    for model, leaf in zip(MODELS.values(), leaves, strict=True):
        generated[leaf] += NGENTOT_LC[model.name]
        happened[leaf] += events(model, model.redshift) if model.name in RATES else GENERATED[model.name]
        if model.name in RATES:
            simulator[leaf] += simulated(model)
    objects = {leaf: happened[leaf] * counts[leaf] / generated[leaf] for leaf in taxonomy.leaves}
    every, explosions, ours = shares(objects), shares({leaf: objects[leaf] for leaf in simulator}), shares(simulator)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    print(json.dumps({"bench": "observed_mix", "date": date.today().isoformat(), "machine": machine, "chunks": CHUNKS}))
    for leaf in taxonomy.leaves:
        row = {"leaf": leaf, "events": round(happened[leaf]), "generated": generated[leaf], "in TRAIN_02": counts[leaf]}
        print(json.dumps(row | {"share": every[leaf], "explosions": explosions.get(leaf), "simulator": ours.get(leaf)}))


if __name__ == "__main__":
    main()
