"""Everything that touches a tensor; runs without Ray, SQL or HTTP."""
