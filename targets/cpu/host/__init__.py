"""The CPU itself: its instruction set, how it is detected and checked, what work costs it."""
