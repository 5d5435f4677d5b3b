"""Where streets run and what stands beside them."""
