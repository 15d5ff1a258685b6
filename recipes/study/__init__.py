"""Whole studies: one YAML file names models, domains, conditions and seeds; Snakemake runs what is missing."""
