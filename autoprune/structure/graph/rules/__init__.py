"""How operators couple units."""
