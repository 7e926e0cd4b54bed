"""The quantum truth: labels, the programs that compute them, and the store that never pays twice."""
