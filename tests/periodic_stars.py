"""Simulated periodic stars with their true periods, which the files of the simulator, like the real ones, do not contain."""

import numpy as np
import pandas as pd

from elasticc_hc.lightcurves.lightcurves import BANDS, DETECTED, LightCurves
from elasticc_hc.simulation.population import MODELS, star_candidates, survey_sky
from elasticc_hc.simulation.simulator import background_light, observe, triggered_visits

CANDIDATES = 500  # stars of one draw


def _draw(name, sky, seed, number, least):
    """Light curves of one draw with the least number of detections, and the periods of all its candidates."""
    rng = np.random.Generator(np.random.Philox([seed, number]))
    found = star_candidates(rng, MODELS[name], sky, CANDIDATES, "mixed")
    seen = triggered_visits(observe(rng, MODELS[name], found, sky, background_light(found, None)), sky, len(found))
    enough = np.bincount(seen.obj[(seen.flags & DETECTED) > 0], minlength=len(found)) >= least
    seen = seen.keep(enough[seen.obj])
    columns = {"PHOTFLAG": seen.flags, "FLUXCAL": seen.measured, "FLUXCALERR": seen.sigma, "candidate": seen.obj}
    place = {"MJD": sky.pointings.mjd[seen.visit].astype(float), "BAND": np.array(list(BANDS))[sky.pointings.band[seen.visit]]}
    return pd.DataFrame(columns | place), found.source.period


def periodic_stars(name, n, seed=0, least=60):
    """The light curves of n stars of a model with at least so many detections, and their periods in days."""
    sky, parts, periods, number = survey_sky("wfd", seed), [], [], 0
    while len(periods) < n:
        table, true = _draw(name, sky, seed, number, least)
        chosen = table["candidate"].unique()[: n - len(periods)]
        table = table[table["candidate"].isin(chosen)]
        parts.append(table.assign(SNID=f"{name}-{number}-" + table["candidate"].astype(str)))
        periods.extend(true[chosen])
        number += 1
    return LightCurves.from_frame(pd.concat(parts, ignore_index=True)), np.array(periods)
