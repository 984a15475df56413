"""How long reading a study of any size and making its tables takes, on generated records."""
