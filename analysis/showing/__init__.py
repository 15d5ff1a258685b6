"""Tables and figures in general: their forms, panels and files."""
