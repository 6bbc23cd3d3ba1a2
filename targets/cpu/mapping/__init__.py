"""How kernels walk: tilings chosen analytically, written as loops, read from plans, enumerated for tuning."""
