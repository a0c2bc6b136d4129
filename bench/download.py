"""Rates of downloading, checking and unpacking an archive like that of ELAsTiCC2: a tar.bz2 of compressed files.

    python bench/download.py [--megabytes 200]

CPU time of this process, which includes the server of the archive; a real network connection is slower than this download rate.
Prints a line about the machine, then one JSON line per step.
"""

import argparse
import datetime
import json
import os
import platform
import random
import tarfile
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

from elasticc_hc.conversion.archives import fetch_archive, fetch_file, unpack

FILE = 2_000_000  # bytes


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def pack(path: Path, megabytes: int) -> None:
    "Write an archive of random bytes, which are incompressible like compressed files."
    with tarfile.open(path, "w:bz2") as tar:
        for i in range(megabytes * 1_000_000 // FILE):
            header = tarfile.TarInfo(f"SET_MODEL/SET_{i:04d}_PHOT.FITS.gz")
            header.size = FILE
            tar.addfile(header, BytesIO(random.Random(i).randbytes(FILE)))


def timed(step: str, size: int, work) -> None:
    "Run a step and print its rate."
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    megabytes = size / 1e6
    print(json.dumps({"step": step, "MB": round(megabytes), "MB_per_cpu_s": round(megabytes / seconds, 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"date": f"{datetime.date.today()}", "machine": machine}), flush=True)
    os.environ["no_proxy"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as place:
        pack(Path(place) / "set.tar.bz2", options.megabytes)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, here = f"http://127.0.0.1:{server.server_port}/set.tar.bz2", Path(place) / "here"
        here.mkdir()
        size = (Path(place) / "set.tar.bz2").stat().st_size
        timed("fetch", size, lambda: fetch_file(url, here / "set.tar.bz2"))
        timed("check", size, lambda: fetch_archive(url, here))
        timed("unpack", size, lambda: unpack(here / "set.tar.bz2", here / "set"))
        server.shutdown()


if __name__ == "__main__":
    main()
