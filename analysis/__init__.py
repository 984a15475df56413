"""Reads the records of a study and writes its tables; needs neither Ray, nor torch, nor the data."""
