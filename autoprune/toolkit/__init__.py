"""What several plugins would otherwise write again."""
