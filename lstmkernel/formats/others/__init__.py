"""Files that are no weights which lstmkernel reads: what each is, and the way to a file that it reads."""
