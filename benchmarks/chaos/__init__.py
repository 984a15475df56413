"""A real study on a real cluster against a seeded adversary, compared with one left alone."""
