"""Every goal of speed and memory in one table, and throughput on several threads in another."""

import argparse

import fitting
import importing
import scale
import selection
import smaller
from goals import begin

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--more-threads", type=int, default=2)
    arguments = parser.parse_args()
    with begin(arguments.threads):
        importing.importing()
        selection.speed()
        for part in (*scale.PARTS.values(), *smaller.PARTS.values()):
            part()
        fitting.main(fitting.available())
    with begin(arguments.more_threads):
        scale.throughput()
