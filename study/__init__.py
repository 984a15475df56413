"""Runs the trials of a study: Optuna proposes, Ray schedules, records remember."""
