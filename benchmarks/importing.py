"""What ``import skspectral`` takes, once torch and scikit-learn are there."""

import statistics
import subprocess
import sys

from goals import begin, row

SCRIPT = """
import time, torch, sklearn.base, sklearn.model_selection, sklearn.utils.validation
start = time.perf_counter()
import skspectral
print(time.perf_counter() - start)
"""


def seconds():
    """In a fresh process."""
    command = [sys.executable, "-c", SCRIPT]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def importing():
    """The goal of seconds."""
    measured = statistics.median(seconds() for _ in range(5))
    row("import", "import skspectral (s)", "", measured, 0.3, "beyond torch and scikit-learn")


if __name__ == "__main__":
    with begin(1):
        importing()
