"""What one tenant's abuse, at the rate that its limits allow, costs a quiet tenant beside it."""
