"""The commands: one comparison, or a report with its page."""
