"""What ``lstmkernel explain`` and the documentation show of an LSTM at work: its numbers, and pictures of them."""
