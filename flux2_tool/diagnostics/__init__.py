"""Finding faults: `doctor` examines an installation for free, `probe` pays for one image and records the responses."""
