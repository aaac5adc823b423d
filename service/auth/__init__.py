"""Who may do what: accounts, passwords, tokens and scopes. No HTTP."""
