"""Layer 2: who asks. Tokens are verified here and become principals."""
