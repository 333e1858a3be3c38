"""The task journal: what is on disk before money is spent, who may join it, who takes it over, and what it survives."""
