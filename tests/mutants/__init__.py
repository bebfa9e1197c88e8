"""Change the code that counts money, keeps users apart and admits work, and see whether a test notices."""
