"""A miniature world of fictional facts, its corpus, and a small base model that was pretrained on it."""
