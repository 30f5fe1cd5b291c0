"""The counter service: owner of all state, host of Counter and Ledger, the only one with Redis."""
