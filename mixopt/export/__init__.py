"""A mixture in the format of a trainer: ``Blend`` holds it, ``export`` writes it, ``targets`` lists what there is."""

from .blend import Blend, Stage
from .exporting import Exported, export
from .reading import read_paths
from .table import targets
from .target import Target

__all__ = ["Blend", "Exported", "Stage", "Target", "export", "read_paths", "targets"]
