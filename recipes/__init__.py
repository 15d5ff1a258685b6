"""Training recipes and studies."""
