"""What a study's search tells about its settings: one row per proposal, per run, per epoch, per rung."""
