"""Compares what a model says before and after fine-tuning: logs in, tables, figures and one report out. Loads no model."""
