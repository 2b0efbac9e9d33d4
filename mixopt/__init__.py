"""mixopt: state a data mixture as a problem over the simplex, compile it, and solve it with a certificate."""
