"""`make run`: the whole storefront on one machine, its PostgreSQL and Valkey included."""
