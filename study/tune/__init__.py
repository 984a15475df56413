"""The only Ray code: an environment, a cluster to run on, and Tune as the executor of an agenda."""
