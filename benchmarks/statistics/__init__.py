"""Simulations that check the statistics of an ablation: intervals, corrected tests, power."""
