"""What to try next: exactly on the additive model, by chance or by evolution, and with less freedom."""
