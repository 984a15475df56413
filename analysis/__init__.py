"""Floor 3: reads a study's records and writes tables; needs neither Ray, Optuna, torch nor the data."""

from analysis.ablation import ablation_table
from analysis.load import Study, load_study
from analysis.output import AblationFiles, print_ablation, show_ablation, write_ablation
from analysis.statistics import PairedDifference, holm, paired_difference

__all__ = [
    "AblationFiles",
    "PairedDifference",
    "Study",
    "ablation_table",
    "holm",
    "load_study",
    "paired_difference",
    "print_ablation",
    "show_ablation",
    "write_ablation",
]
