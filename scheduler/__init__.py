"""The scheduler: chooses a plan from sensitivity and cost."""
