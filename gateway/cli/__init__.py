"""The `nadi` command: one module per noun."""
