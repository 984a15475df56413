"""A study's tables: what a paper, a supplement and a group meeting ask of its records."""
