"""Is it physics? Gradients, momentum, temperatures, bonds; and what is made on request."""
