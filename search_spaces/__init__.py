"""One study per YAML file: recipe, search, ablation arms, seeds, budget."""
