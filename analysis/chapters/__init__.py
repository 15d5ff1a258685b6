"""The chapters of a report: each file holds what one computes, its tables, its figure and its words."""
