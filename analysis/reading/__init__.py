"""From a folder of runs and logs to the tables of a study, and what it lacks."""
