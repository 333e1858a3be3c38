"""Random schedules of faults and deaths, played against the sandbox, and what must hold in every one of them."""
