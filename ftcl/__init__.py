"""Weakly-supervised temporal action localization: data, networks, losses, evaluation and training recipes."""
