"""The Python API: `Flux2Tool` for code with an event loop, `SyncFlux2Tool` for code without one."""
