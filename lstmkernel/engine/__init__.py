"""What runs beneath the public classes: one network, packed, on one backend. Nothing here knows a public class."""
