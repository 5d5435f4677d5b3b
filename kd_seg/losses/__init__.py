"""Pure functions on rows of tensors; each returns its value and the count of rows it stood on."""
