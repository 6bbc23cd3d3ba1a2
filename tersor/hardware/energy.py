"""Energy: a number of pJ in a machine's file is worth something only with its source."""


def check_energy(name: str, energy: float, source: str) -> None:
    """Raise ValueError for a negative energy, or for one without a source."""
    if energy < 0:
        raise ValueError(f"{name}: an energy is not negative, got {energy} pJ")
    if energy > 0 and not source:
        raise ValueError(f"{name}: an energy of {energy} pJ needs its source; say where the number is from")
