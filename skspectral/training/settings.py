"""Settings of a training."""

from __future__ import annotations

from typing import ClassVar

from sklearn.base import BaseEstimator

from ..utils.validation import check_count, is_number


class TrainingSettings(BaseEstimator):
    """Base class of the settings of a training.

    Attributes
    ----------
    counts : tuple of str
        Names of the parameters that are counts. There are also ``lr`` and ``validation_fraction``,
        which are numbers between 0 and 1.
    """

    counts: ClassVar[tuple[str, ...]] = ("max_epochs", "batch_size", "patience")

    def check_params(self) -> None:
        """Raise if a parameter is not valid.

        Raises
        ------
        ValueError
            If a value is out of range.
        TypeError
            If a count is not an int.
        """
        for name in self.counts:
            check_count(name, getattr(self, name))
        for name in ("lr", "validation_fraction"):
            value = getattr(self, name)
            if not (is_number(value) and 0.0 < value < 1.0):
                raise ValueError(
                    f"{name} of {type(self).__name__} must be a number between 0 and 1; got "
                    f"{value!r}."
                )
