"""Alerts for the tests: Avro schemas made from the tables of names, and records of one object at a time."""

import io

import fastavro
import numpy as np
import pyarrow as pa

from elasticc_hc.conversion.alert_formats import ELASTICC, HOST_NAMES, RUBIN, ZTF, alert_type

SIMPLE = {pa.float64(): "double", pa.float32(): "float", pa.int64(): "long", pa.string(): "string", pa.bool_(): "boolean"}
OLD_NAMES = ("midPointMjdTai", "xm", "alertId")  # of Rubin's alerts in other versions


def avro_type(name: str, type: pa.DataType):
    "The Avro type of an Arrow type: records and lists by name, everything else may be null."
    if pa.types.is_struct(type):
        fields = [{"name": part.name, "type": avro_type(f"{name}_{part.name}", part.type)} for part in type if part.name not in OLD_NAMES]
        return {"type": "record", "name": name, "fields": fields}
    if pa.types.is_list(type):
        return ["null", {"type": "array", "items": avro_type(f"{name}_item", type.value_type)}]
    return ["null", SIMPLE[type]]


def avro_schema(name: str, form, extra: tuple = ()) -> dict:
    "A schema with the fields of a format, and some that nobody needs."
    made = avro_type(name, alert_type(form))
    made["fields"] += [{"name": field, "type": ["null", "bytes"]} for field in extra]
    return made


ELASTICC_SCHEMA = avro_schema("alert", ELASTICC)
ELASTICC_SCHEMA["fields"].append({"name": "alertId", "type": "long"})
RUBIN_SCHEMA = avro_schema("alert", RUBIN, ("cutoutDifference", "cutoutScience", "cutoutTemplate"))
ZTF_SCHEMA = avro_schema("alert", ZTF, ("cutoutScience",))
EMPTY = {"null": None, "long": 1, "int": 1, "double": 1.0, "float": 1.0, "string": "r", "boolean": False, "bytes": b""}


def fill_record(schema):
    "A value for every field of a schema."
    if isinstance(schema, list):
        return fill_record(schema[-1])
    if isinstance(schema, str):
        return EMPTY[schema]
    if schema["type"] == "record":
        return {field["name"]: fill_record(field["type"]) for field in schema["fields"]}
    return [] if schema["type"] == "array" else fill_record(schema["type"])


def encode(schema, record) -> bytes:
    "A record without its schema."
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, record)
    return stream.getvalue()


def container(schema, records) -> bytes:
    "Records with their schema."
    stream = io.BytesIO()
    fastavro.writer(stream, schema, records)
    return stream.getvalue()


def _elasticc_source(object_id: int, day: float, flux: float = 400.0) -> dict:
    return {
        "diaSourceId": object_id * 100_000 + int(day * 10),
        "diaObjectId": object_id,
        "midPointTai": 60000.0 + day,
        "filterName": "ugrizY"[int(day) % 6],
        "ra": 10.0,
        "decl": -3.0,
        "psFlux": flux,
        "psFluxErr": 20.0,
        "ccdVisitId": None,
    }


def elasticc_alert(object_id: int, day: float, earlier: int = 0, forced: int = 0) -> dict:
    "An alert with so many earlier detections, a day apart, and forced points, half a day apart; a point at each detection among them."
    hosts = {f"hostgal{which}_{name}": 20.0 + k / 7 for which in ("", "2") for k, name in enumerate(HOST_NAMES)}
    detections = [_elasticc_source(object_id, day - 1 - k) for k in range(earlier)]
    points = [_elasticc_source(object_id, day - 0.5 - 0.5 * k, flux=50.0 if k % 2 == 0 else 400.0) for k in range(forced)]
    return {
        "alertId": object_id * 100_000 + int(day * 10),
        "diaSource": _elasticc_source(object_id, day),
        "prvDiaSources": detections or None,
        "prvDiaForcedSources": points or None,
        "prvDiaNondetectionLimits": None,
        "diaObject": {
            "diaObjectId": object_id,
            "ra": 10.0,
            "decl": -3.0,
            "mwebv": 0.05,
            "mwebv_err": 0.01,
            "z_final": 0.3,
            "z_final_err": 0.05,
        }
        | hosts,
    }


def rubin_source(object_id: int, visit: int, flux: float | None = 4000.0, **more) -> dict:
    "A detection of Rubin."
    return {
        "diaSourceId": object_id * 1000 + visit,
        "diaObjectId": object_id,
        "visit": visit,
        "detector": 9,
        "midpointMjdTai": 61000.0 + visit / 8,
        "band": "ugrizy"[visit % 6],
        "ra": 150.0,
        "dec": 2.0,
        "psfFlux": flux,
        "psfFluxErr": 200.0,
        "pixelFlags_saturated": False,
        "reliability": 0.9,
    } | more


def rubin_alert(object_id: int, visit: int, earlier: tuple = (), forced: tuple = ()) -> dict:
    "An alert of Rubin with detections at earlier visits, and forced points at some."
    return {
        "diaSourceId": object_id * 1000 + visit,
        "diaSource": rubin_source(object_id, visit),
        "prvDiaSources": [rubin_source(object_id, k) for k in earlier] or None,
        "prvDiaForcedSources": [rubin_source(object_id, k, flux=3900.0) for k in forced] or None,
        "diaObject": {"diaObjectId": object_id, "ra": 150.0, "dec": 2.0},
    }


def wire(schema_number: int, data: bytes) -> bytes:
    "A message as on Rubin's stream."
    return b"\0" + schema_number.to_bytes(4, "big") + data


def as_records(curves, i: int) -> list[dict]:
    "The alerts that ELAsTiCC would have sent of one object: one at each detection, each with all that came before."
    span = slice(curves.offsets[i], curves.offsets[i + 1])
    snid, header = int(curves.header["SNID"].iloc[i]), curves.header.iloc[i]

    def names(row, which):
        return {f"hostgal{which}_{name}": float(row[f"HOSTGAL{which}_{right}"]) for name, right in HOST_NAMES.items()}

    source = [
        {
            "diaSourceId": snid * 100_000 + k,
            "diaObjectId": snid,
            "midPointTai": float(mjd),
            "filterName": "ugrizY"[band],
            "ra": header["RA"],
            "decl": header["DEC"],
            "psFlux": float(flux) * 10**1.56,
            "psFluxErr": float(error) * 10**1.56,
        }
        for k, (mjd, band, flux, error) in enumerate(
            zip(*(getattr(curves, name)[span] for name in ("MJD", "BAND", "FLUXCAL", "FLUXCALERR")), strict=True)
        )
    ]
    seen = np.flatnonzero(curves.detected[span])
    about = (
        {
            "diaObjectId": snid,
            "ra": header["RA"],
            "decl": header["DEC"],
            "mwebv": header["MWEBV"],
            "mwebv_err": header["MWEBV_ERR"],
            "z_final": header["REDSHIFT_FINAL"],
            "z_final_err": header["REDSHIFT_FINAL_ERR"],
        }
        | names(header, "")
        | names(header, "2")
    )
    return [
        {
            "alertId": source[k]["diaSourceId"],
            "diaSource": source[k],
            "prvDiaSources": [source[j] for j in seen if j < k] or None,
            "prvDiaForcedSources": source[:k] or None,
            "diaObject": about,
        }
        for k in seen
    ]
