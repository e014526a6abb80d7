"""Every goal of speed and memory in one table."""

import argparse

import scale
import selection
import smaller
from goals import begin

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    with begin(parser.parse_args().threads):
        selection.speed()
        for part in (*scale.PARTS.values(), *smaller.PARTS.values()):
            part()
