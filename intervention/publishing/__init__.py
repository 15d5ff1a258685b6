"""Data set folders, their cards and terms, and the way to the Hub."""
