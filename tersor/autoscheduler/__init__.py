"""The search under a contract: losses and costs of schemes, trials, finalists, the front, and the report."""
